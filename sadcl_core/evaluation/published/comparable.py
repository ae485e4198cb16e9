"""Say whether a published row is comparable with ours: the same images, size, backbone and measure, as far as it is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sadcl_core.evaluation.published.conventions import ap_convention
from sadcl_core.evaluation.published.tables import Cell, Row

YES = "yes"
IMAGES = {"coco": (40_504, 40_137), "voc2007": (4_952,)}  # of the published splits; COCO's also without those that have no label
BACKBONE = "ResNet-101"  # of rows that name none
OTHER_BACKBONES = {"CNN-RNN": "VGG-16", "RNN-Att": "VGG-16"}


def comparable(row: Row, ours: Mapping[str, Any], *, data: str, images: int) -> str:
    """Return `yes`, `no: ` with differences, or `perhaps: ` with unknowns, for a row of the published table of these data.

    `ours` is the subject of our evaluation: `img_size`, `train_size`, `backbone`, `tta`, `resize` as far as they are known.

    Example:
        >>> ours = {"img_size": 448, "train_size": 448, "backbone": "resnet101.tv_in1k"}
        >>> row = {"method": "SADCL", "train_size": 448.0, "test_size": 576.0, "mAP": 86.8}
        >>> comparable(row, ours, data="coco", images=40_137)
        'no: tested at 576 px and ours at 448'
        >>> comparable({**row, "test_size": 448.0}, ours, data="coco", images=40_137)
        'yes'
    """
    differing = _differing(row, ours)
    if images not in IMAGES.get(data, (images,)):
        differing.insert(0, f"on {IMAGES[data][0]:,} images and ours on {images:,}")
    if differing:
        return f"no: {'; '.join(differing)}"
    printed = [f"size it was {words} at" for words, (theirs, _) in _sizes(row, ours).items() if theirs is None]
    if row.get("mAP") is not None and not ap_convention(row, data):
        printed.append("kind of AP")
    known = [f"size {words} at" for words, (_, own) in _sizes(row, ours).items() if own is None]
    if ours.get("backbone") is None:
        known.append("backbone")
    unknown = [
        f"{', '.join(names)} {words}" for names, words in ((printed, "not printed"), (known, "of ours not known")) if names
    ]
    return f"perhaps: {'; '.join(unknown)}" if unknown else YES


def _differing(row: Row, ours: Mapping[str, Any]) -> list[str]:
    """Return what differs beside the images."""
    sizes = {words: pair for words, pair in _sizes(row, ours).items() if None not in pair and pair[0] != pair[1]}
    differing = [f"{words} at {theirs:g} px and ours at {own:g}" for words, (theirs, own) in sizes.items()]
    differing += _of_backbone(row, ours.get("backbone"))
    if row.get("note") == "starred":
        differing.append("pre-trained on COCO, or run by others")
    if ours.get("resize") or ours.get("tta"):
        differing.append("tested on whole images as they are")
    if ours.get("known_share"):
        differing.append("tested without known labels")
    return differing


def _sizes(row: Row, ours: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the sizes of training and test, theirs and ours; None where nobody says them."""
    return {"trained": (row.get("train_size"), ours.get("train_size")), "tested": (row.get("test_size"), ours.get("img_size"))}


def backbone_of(row: Row) -> str:
    """Return the backbone that a row names, or else that of its method: ResNet-101 for nearly all."""
    return str(row.get("backbone") or OTHER_BACKBONES.get(str(row["method"]), BACKBONE))


def _of_backbone(row: Row, own: Cell) -> list[str]:
    """Return how backbone and weights differ."""
    if own is None:
        return []
    theirs, _, weights = backbone_of(row).partition(" (")
    if _letters(theirs) != _letters(str(own).partition(".")[0]):
        return [f"on {backbone_of(row)} and ours on {own}"]
    return [f"from weights of {weights.rstrip(')')}"] if weights else []


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
