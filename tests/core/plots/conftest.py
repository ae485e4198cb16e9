from __future__ import annotations

from collections.abc import Iterator

import pytest
from matplotlib import rc_context


@pytest.fixture(autouse=True, scope="package")
def fine_figures(coarse_figures: None) -> Iterator[None]:
    """Draw figures as they are drawn for people."""
    with rc_context({"savefig.dpi": "figure"}):
        yield
