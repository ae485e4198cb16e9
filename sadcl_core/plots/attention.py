"""An image, and beside it the attention of its labels over it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from PIL import Image

from sadcl_core.plots.overlay import attention_over, heat_colours
from sadcl_core.plots.style import GREY, bare, save, short

COLUMNS = 4
PAPER = 0.8  # grey, on which the colours of the weights are explained
SIDE = 800  # pixels of a panel's longer side, at most
LETTERS, LINES = 12, 4  # of a note: to an inch, and at most


def plot_attention(
    image: Image.Image, labels: Sequence[tuple[str, float, npt.NDArray[np.float32]]], path: Path, *, title: str, note: str = ""
) -> Path:
    """Draw an RGB image and one overlay per label (name, score in 0..1, attention (h, w) of any scale), four panels in a row.

    The title is above the image, such as its name; the note under all panels, such as the threshold of the labels.
    """
    photo = image.copy()
    photo.thumbnail((SIDE, SIDE))
    rows = math.ceil((len(labels) + 1) / COLUMNS)
    columns = math.ceil((len(labels) + 1) / rows)
    tall = min(max(photo.height / photo.width, 0.3), 2.5)
    figure = Figure(figsize=(3 * columns, (3 * tall + 0.3) * rows + 0.5), layout="compressed")
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
    _explain(figure, panels, note)
    return save(figure, path)


def _explain(figure: Figure, panels: Sequence[Axes], note: str) -> None:
    """Draw under all panels which colour is which weight, and write the note."""
    heat = heat_colours(np.linspace(0, 1, 256))
    colours = ScalarMappable(cmap=ListedColormap(PAPER + heat[:, 3:] * (heat[:, :3] - PAPER)))
    bar = figure.colorbar(colours, ax=list(panels), location="bottom", shrink=0.8, aspect=50, pad=0.02)
    bar.set_ticks([0, 1], labels=["mean of the map, or less", "its highest weight"], fontsize=7)
    bar.ax.tick_params(length=0)
    bar.outline.set_edgecolor("#BBBBBB")
    width = int(LETTERS * figure.get_figwidth())
    bar.set_label(textwrap.fill(short(note, LINES * width), width), fontsize=8, color=GREY)
