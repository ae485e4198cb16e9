from __future__ import annotations

import gc

import numpy as np
from PIL import Image
from PIL.ImageFont import FreeTypeFont

from sadcl_core.plots.annotated import annotate


def test_fonts_are_opened_once_for_all_labels() -> None:
    def draw(name: str) -> int:
        annotate(Image.new("RGB", (300, 200)), [(name, 0.9)], np.eye(7, dtype=np.float32)[None])
        return sum(type(one) is FreeTypeFont for one in gc.get_objects())

    fonts = draw("cat")
    assert [draw(name) for name in ("dog", "cow", "owl")] == [fonts] * 3
