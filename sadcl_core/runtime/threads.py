"""Work in threads, results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def count_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None, ahead: int = 64
) -> Iterator[Result]:
    """Yield `work` of each item, in order, computed in threads.

    Args:
        work: is called once for each item, from any thread; what it raises is raised here.
        items: are taken by the calling thread, as they are needed.
        workers: threads; 0: none beside the caller's; None: one for each processor, 8 at most.
        ahead: items that are being worked on, or wait to be taken, at most.

    Example:
        >>> list(map_ahead(str.upper, "abc"))
        ['A', 'B', 'C']
    """
    if workers is None:
        workers = min(8, count_processors())
    if workers == 0:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= max(ahead, workers):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
