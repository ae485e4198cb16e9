from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from sadcl_core.data.formats.matlab import read_matlab
from sadcl_core.errors import DataError

CLASS_OF_ARRAY = 144  # the place in the file
LETTERS = 4


def test_a_file_that_crashes_its_parser_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"attributes": np.array([["cat"], ["dog"]], dtype=object)})
    assert read_matlab(path) == {"attributes": [["cat"], ["dog"]]}
    content = bytearray(path.read_bytes())
    content[CLASS_OF_ARRAY] = LETTERS
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mat cannot be read as a MATLAB file"):
        read_matlab(path)
