"""Every way a command of this project can fail on purpose, and the exit code of each.

A message is one sentence that says what is wrong (with the path and row, where there is one) and one that says how to
mend it.
"""

EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_PIPE = 141  # 128 + SIGPIPE
EXIT_TERMINATED = 143  # 128 + SIGTERM


class SadclError(Exception):
    """A mistake that was expected; `exit_code` is what the command line returns for it."""

    exit_code: int = EXIT_INTERNAL


class UsageError(SadclError):
    """An option, a configuration value or a path given by the user does not make sense."""

    exit_code = 2


class DataError(SadclError):
    """A data set, an image or a model file is missing, damaged or does not fit."""

    exit_code = 3


class NotFiniteError(DataError):
    """A model gives logits that are not finite: its file is damaged, or its training diverged."""


class DivergedError(SadclError):
    """Training produced a loss that is not a finite number."""

    exit_code = 4


class MachineError(SadclError):
    """The machine lacks something: a device, an optional package, the network."""

    exit_code = 5


class GateError(SadclError):
    """A result is not as good as was asked for."""

    exit_code = 6


class Terminated(KeyboardInterrupt):
    """The process was asked to end with SIGTERM, as schedulers and containers do."""
