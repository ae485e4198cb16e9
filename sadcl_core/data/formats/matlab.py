"""Variables of a MATLAB file, read by a process of its own: the parser is not Python, and a damaged file crashes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sadcl_core.errors import DataError

LONGEST = 600.0  # seconds


def read_matlab(path: Path) -> dict[str, Any]:
    """Return the variables of a file by name, as numbers, texts and lists.

    An array of numbers is a list of its rows; the elements of a cell array or struct array are one list, row by row; a struct is
    the list of its fields.

    Raises:
        DataError: the file is damaged, or of a version that SciPy does not read.
    """
    variables: dict[str, Any] = _parse(path)
    return variables


def matlab_names(path: Path) -> list[str]:
    """Return the names of the variables of a file.

    Raises:
        DataError: see `read_matlab`.
    """
    names: list[str] = _parse(path, "names")
    return names


def _parse(path: Path, *words: str) -> Any:
    command = [sys.executable, "-m", __name__, str(path), *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=LONGEST, check=True)
        return json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        lines = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
        reason = lines[-1][:100] if lines else "it ends its reader"
        advice = "Save it as version 7: save(..., '-v7')" if "v7.3" in reason else "Fetch it again"
        raise DataError(f"{path} cannot be read as a MATLAB file ({reason}). {advice}.") from None


def plain(value: Any) -> Any:
    """Convert a MATLAB value to one of JSON; see `read_matlab`.

    Example:
        >>> plain(np.array([[1, 0]])), plain(np.array([np.array(["cat"])], dtype=object))
        ([[1, 0]], ['cat'])
    """
    if isinstance(value, np.void):
        return [plain(value[name]) for name in value.dtype.names or ()]
    if isinstance(value, np.ndarray) and (value.dtype.hasobject or value.dtype.names):
        return [plain(item) for item in value.ravel()]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def main(path: Path, *, names: bool) -> None:
    """Write the variables of a file, or their names, to stdout, as JSON."""
    from scipy.io import loadmat, whosmat

    if names:
        json.dump([name for name, *_ in whosmat(path)], sys.stdout)
        return
    variables = {name: plain(value) for name, value in loadmat(path).items() if not name.startswith("__")}
    json.dump(variables, sys.stdout, default=str)


if __name__ == "__main__":
    main(Path(sys.argv[1]), names=len(sys.argv) > 2)
