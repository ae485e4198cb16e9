"""An image, and beside it the attention of its labels over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from sadcl_core.plots.overlay import attention_over
from sadcl_core.plots.style import bare, save, short

COLUMNS = 4
SIDE = 800  # pixels of a panel's longer side, at most


def plot_attention(
    image: Image.Image, labels: Sequence[tuple[str, float, npt.NDArray[np.float32]]], path: Path, *, title: str, note: str = ""
) -> Path:
    """Draw an image and one overlay per label, in rows of the same length, of four panels at most.

    Args:
        image: RGB.
        labels: name, score in 0..1 and attention (h, w), of any scale, of each label.
        path: of the figure.
        title: above the image, such as its name.
        note: under all panels, such as the threshold of the labels.
    """
    photo = image.copy()
    photo.thumbnail((SIDE, SIDE))
    rows = math.ceil((len(labels) + 1) / COLUMNS)
    columns = math.ceil((len(labels) + 1) / rows)
    tall = min(max(photo.height / photo.width, 0.3), 2.5)
    figure = Figure(figsize=(3 * columns, (3 * tall + 0.4) * rows + 0.3), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    smooth = "nearest" if max(photo.size) < 128 else "auto"
    for panel in panels[len(labels) + 1 :]:
        panel.set_visible(False)
    for panel in panels[: len(labels) + 1]:
        bare(panel)
    panels[0].imshow(np.asarray(photo), interpolation=smooth)
    panels[0].set_title(short(title, 34, middle=True), fontsize=9)
    for panel, (name, score, attention) in zip(panels[1:], labels, strict=False):
        panel.imshow(np.asarray(attention_over(photo, attention)), interpolation=smooth)
        panel.set_title(f"{short(name, 28)}  {score:.2f}", fontsize=9)
    if note:
        figure.supxlabel(short(note, 40 * columns), x=0.01, ha="left", fontsize=8, color="#555555")
    return save(figure, path)
