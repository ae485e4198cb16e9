"""The attention of a model, compared with the boxes of a data set: see `sadcl_core.metrics.localisation`.

Boxes are in pixels of the image as stored; a model sees it upright and squeezed to a square. Both cover the whole image, so
that boxes as shares of its sides, turned as the image is, lie where the model saw the object.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sadcl_core.data.exif import upright_box, upright_size
from sadcl_core.data.image_files import identify, image_file
from sadcl_core.data.images import explained_image, orientation, stored_size
from sadcl_core.data.rows import Box
from sadcl_core.data.split import Split
from sadcl_core.metrics import Localisation, box_cover, box_energy, pointing_hit, points_in_boxes

if TYPE_CHECKING:
    from torch import Tensor

    from sadcl_core.model.classifier import Classifier, ClassifierOutput

Floats = npt.NDArray[np.float64]
CENTRE = ((0.5, 0.5),)


class LocalisationObserver:
    """Watch the scoring of a split and compare the attention of every active label that has boxes with them."""

    needs_attention = True

    def __init__(self, split: Split, *, tolerance: float = 0.0) -> None:
        """Prepare for a split that is scored, not one that `cannot_be_localised`.

        A point may lie `tolerance` pixels of the image beside a box and still hit it; 15 in Zhang et al.
        """
        self.split = split
        self.tolerance = tolerance
        self.sums = np.zeros((5, len(split.manifest.classes)))  # as `Localisation` lists them

    def __call__(self, classifier: Classifier, output: ClassifierOutput, targets: Tensor, indices: Tensor) -> None:
        """Add a batch.

        Raises:
            DataError: an image with boxes cannot be opened.
        """
        assert output.attention is not None, "needs_attention requests it"
        self.add(output.attention, targets.numpy(), indices.tolist())

    def add(self, attention: Tensor | npt.NDArray[np.float32], targets: npt.NDArray[np.int8], indices: Sequence[int]) -> None:
        """Add the maps (B, K, h, w) of a batch, with targets (B, K), and the index of each image in the split.

        Raises:
            DataError: an image with boxes cannot be opened.
        """
        for row, index in enumerate(indices):
            boxes_of: dict[int, list[Box]] = {}  # of the active labels
            for box in self.split.boxes(index) or ():
                if targets[row, box.label] == 1:
                    boxes_of.setdefault(box.label, []).append(box)
            if not boxes_of:
                continue
            path = self.split.path(index)
            with explained_image(path), identify(image_file(path)) as image:
                size, turned = stored_size(image), orientation(image)  # from the header
            maps: Any = attention[row, list(boxes_of)]  # (n, h, w)
            maps = maps if isinstance(maps, np.ndarray) else maps.float().cpu().numpy()
            for one, (label, boxes) in zip(maps, boxes_of.items(), strict=True):
                self._add(label, one, boxes, size, turned)

    def _add(self, label: int, attention: npt.NDArray[np.float32], boxes: list[Box], size: tuple[int, int], turned: int) -> None:
        corners = np.array([upright_corners(box, size, turned) for box in boxes])
        width, height = upright_size(size, turned)
        tolerance = (self.tolerance / width, self.tolerance / height)
        cover = box_cover(corners, *attention.shape)
        self.sums[:, label] += (
            pointing_hit(attention, corners, tolerance),
            float(points_in_boxes(CENTRE, corners, tolerance)[0]),
            box_energy(attention, cover),
            float(cover.mean()),
            1.0,
        )

    def gather(self) -> None:
        """Add up the sums of all processes."""
        if "torch" in sys.modules:  # without it, as an exported model is scored, a process is alone
            import torch

            from sadcl_core.runtime.distributed import all_reduce

            self.sums = all_reduce(torch.from_numpy(self.sums)).numpy()

    def result(self) -> Localisation:
        """Return the means of each class over all images."""
        sums = self.sums
        pointing, centre, energy, area = np.divide(sums[:4], sums[4], out=np.full(sums[:4].shape, np.nan), where=sums[4] > 0)
        return Localisation(pointing, centre, energy, area, sums[4].astype(np.int64), self.tolerance)


def cannot_be_localised(split: Split) -> str:
    """Return why attention cannot be compared with boxes on this split, as a sentence; empty when it can."""
    name = split.manifest.description.name
    rows = split.manifest.rows["boxes"]
    if rows.null_count == len(rows) or not pc.any(pc.greater(pc.list_value_length(rows), 0)).as_py():
        return f"{name} has no boxes to compare attention with."
    if split.manifest.description.shards is not None:
        return f"The images of {name} are in shards, where their size and orientation, which boxes need, cannot be looked up."
    return ""


def upright_corners(box: Box, size: tuple[int, int], turned: int) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a box as shares of the sides of the upright image.

    The box is in pixels of the image as stored, which has a size (width, height) and `turned`, its EXIF orientation from 1 to 8.
    """
    width, height = size
    shares = Box(box.label, box.x / width, box.y / height, box.width / width, box.height / height)
    upright = upright_box(shares, (1, 1), turned)
    return upright.x, upright.y, upright.x + upright.width, upright.y + upright.height
