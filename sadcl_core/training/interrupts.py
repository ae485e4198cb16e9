"""Ctrl-C that ends training between two steps.

Python raises KeyboardInterrupt wherever the program happens to be; when that is a destructor or a callback of a library,
it is swallowed or leaves noise behind. Here the first Ctrl-C is remembered and raised at the next step, a second one at
once. From then on they are ignored, so that what was learned can be saved.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn


class Interrupts:
    """A context in which the first SIGINT waits for `check`. Outside the main thread it changes nothing."""

    def __init__(self) -> None:
        """Nothing is installed yet."""
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raise KeyboardInterrupt if it was asked for; called between steps."""
        if self.asked:
            self._raise()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self._raise()
        self.asked = True

    def _raise(self) -> NoReturn:
        if self._before is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt
