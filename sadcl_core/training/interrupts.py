"""End training between two steps when Ctrl-C, SIGTERM or the hang-up of a terminal comes.

Python raises KeyboardInterrupt wherever the program happens to be; when that is a destructor or a callback of a library,
it is swallowed or leaves noise behind. Here the first signal is remembered and raised at the next step, after which the state is
saved. A second Ctrl-C ends the run at once, with the state that was saved last; while files are written signals wait.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

from sadcl_core.errors import Terminated
from sadcl_core.runtime.distributed import any_rank, is_distributed

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """A context in which the first signal waits for a check. Outside the main thread it changes nothing.

    Attributes:
        signal: that came first, or None.
        at_once: a second Ctrl-C came: nothing more is to be saved.
    """

    def __init__(self, on_signal: Callable[[], None] = lambda: None) -> None:
        """Install nothing yet; `on_signal` is called when the first signal comes."""
        self.on_signal = on_signal
        self.signal: int | None = None
        self.at_once = False
        self._interrupted = False  # Ctrl-C came before
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup lets one be ignored
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt or Terminated if a signal came; several processes wait for `check_together`."""
        if self.signal is not None and not is_distributed():
            self._raise()

    def check_together(self) -> None:
        """Raise KeyboardInterrupt or Terminated in all processes at the same step if a signal came in any of them."""
        if not is_distributed():
            self.check()
        elif any_rank(self.signal is not None):
            self.signal = signal.SIGINT if not any_rank(self.signal not in (None, signal.SIGINT)) else signal.SIGTERM
            self._raise()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let even a second Ctrl-C wait until the block is over."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self.at_once:
            self._raise()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted:
            self.at_once = True
            if not self._waits:
                self._raise()
            return
        self._interrupted = self._interrupted or number == signal.SIGINT
        if self.signal is None:
            self.signal = number
            self.on_signal()

    def _raise(self) -> NoReturn:
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt if self.signal == signal.SIGINT or self.at_once else Terminated
