from __future__ import annotations

from collections.abc import Iterator

import pytest
from matplotlib import rc_context, rcParamsDefault

from tests.conftest import COARSE


@pytest.fixture(autouse=True, scope="package")
def fine_figures(coarse_figures: None) -> Iterator[None]:
    """Draw figures as they are drawn for people."""
    with rc_context({key: rcParamsDefault[key] for key in COARSE}):
        yield
