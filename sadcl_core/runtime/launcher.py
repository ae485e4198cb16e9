"""What a launcher such as torchrun says of this process; imports no torch."""

from __future__ import annotations

import os


def is_main_process() -> bool:
    """Return True in the process that writes files and results: the first of those that a launcher started, or the only one.

    Example:
        >>> is_main_process()
        True
    """
    return int(os.environ.get("RANK", "0")) == 0
