"""Work in threads, results in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

import pytest

from sadcl_core.runtime.threads import map_ahead


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_only_some_images_are_read_ahead(workers: int) -> None:
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    results = map_ahead(lambda number: 2 * number, numbers(), workers=workers, ahead=10)
    assert list(islice(results, 20)) == list(range(0, 40, 2))
    assert len(asked) <= 30
    results.close()  # type: ignore[attr-defined]
    assert len(asked) <= 30


@pytest.mark.parametrize("workers", [0, 2])
def test_what_the_work_raises_is_raised_where_results_are_taken(workers: int) -> None:
    before = threading.active_count()
    results = map_ahead(lambda number: 1 // number, [1, 0, 1], workers=workers)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before


def test_an_interrupt_ends_the_threads() -> None:
    def interrupted() -> Iterator[int]:
        yield from range(5)
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        list(map_ahead(lambda number: number, interrupted(), workers=3))
    assert threading.active_count() == before
