"""One run that went well, to be looked at and to be damaged copies of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Once
from tests.core.diagnosis.patches import make_patches, train_in


@pytest.fixture(scope="session")
def healthy(once: Once) -> Path:
    """A run of one stage that learned its data; they lie beside it, in `patches`."""
    return once("healthy", lambda folder: train_in(folder, make_patches(folder / "patches"))) / "run"
