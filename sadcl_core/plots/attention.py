"""An image, and beside it the attention of its best labels over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from sadcl_core.plots.style import save, short


def plot_attention(
    image: Image.Image, labels: Sequence[tuple[str, float, npt.NDArray[np.float32]]], path: Path, *, title: str
) -> Path:
    """Draw an image and one overlay per label, four panels to a row.

    Args:
        image: RGB.
        labels: name, score in 0..1 and attention (h, w), of any scale, of each label.
        path: of the PNG.
        title: above the image.
    """
    columns = min(4, len(labels) + 1)
    rows = math.ceil((len(labels) + 1) / columns)
    aspect = image.height / image.width
    figure = Figure(figsize=(3 * columns, (3 * aspect + 0.45) * rows), layout="constrained")
    figure.subplots(rows, columns, squeeze=False)
    panels = figure.axes
    for panel in panels:
        panel.set_axis_off()
    smooth = "nearest" if max(image.size) < 128 else "bilinear"
    panels[0].imshow(image, interpolation=smooth)
    panels[0].set_title(short(title, 60), fontsize=10)
    for panel, (name, score, attention) in zip(panels[1:], labels, strict=False):
        heat = Image.fromarray(attention / max(float(attention.max()), 1e-12)).resize(image.size, Image.Resampling.BICUBIC)
        strength = np.clip(np.asarray(heat), 0, 1)
        panel.imshow(image.convert("L"), cmap="gray", interpolation=smooth)
        panel.imshow(strength, cmap="jet", alpha=0.15 + 0.5 * strength, interpolation="bilinear", vmin=0, vmax=1)
        panel.set_title(f"{short(name)}  {score:.2f}", fontsize=10)
    return save(figure, path)
