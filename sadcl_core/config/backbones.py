"""Backbones of today by size, as data: timm's name with the tag of its weights, their size and their licence.

The first row of a size is the one that `--size` stands for; all can be taken by name. Parameters are those of the network without
its classifier; the image size is the one that the weights were made at, which the recipe or --img-size may change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sadcl_core.errors import UsageError
from sadcl_core.registry import suggest

Terms = Literal["free", "own terms", "non-commercial", "unknown"]
FREE = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")  # of timm's
RESEARCH = ("apple-amlr", "seer-license")  # whose names do not say that they are for research alone


@dataclass(frozen=True)
class BackboneRow:
    """A backbone with weights.

    Attributes:
        size: tiny, small, medium or large.
        name: of timm, with the tag of the weights.
        millions: parameters.
        licence: of the weights, as timm names it.
        img_size: side of the images that the weights were made with, pixels.
        use: what it is good for.
    """

    size: str
    name: str
    millions: float
    licence: str
    img_size: int
    use: str


TUNED, FROZEN = "fine-tuning and frozen features", "frozen features"
CANDIDATES = (
    BackboneRow("tiny", "hgnetv2_b0.ssld_stage2_ft_in1k", 3.9, "apache-2.0", 224, "a CPU, or a device at the edge"),
    BackboneRow("tiny", "repvit_m1_1.dist_450e_in1k", 7.8, "apache-2.0", 224, "a device at the edge"),
    BackboneRow("small", "hgnetv2_b4.ssld_stage2_ft_in1k", 17.7, "apache-2.0", 224, TUNED),
    BackboneRow("small", "vit_small_patch16_dinov3.lvd1689m", 21.6, "dinov3-license", 256, FROZEN),
    BackboneRow("small", "convnext_tiny.dinov3_lvd1689m", 27.8, "dinov3-license", 224, FROZEN),
    BackboneRow("medium", "hgnetv2_b6.ssld_stage2_ft_in1k", 73.2, "apache-2.0", 224, TUNED),
    BackboneRow("medium", "eva02_base_patch14_448.mim_in22k_ft_in22k_in1k", 86.3, "mit", 448, TUNED),
    BackboneRow("medium", "vit_base_patch14_reg1_tipsv2.webli", 86.3, "apache-2.0", 448, FROZEN),
    BackboneRow("medium", "vit_base_patch16_siglip_384.v2_webli", 93.2, "apache-2.0", 384, FROZEN),
    BackboneRow("medium", "vit_base_patch16_dinov3.lvd1689m", 85.6, "dinov3-license", 256, FROZEN),
    BackboneRow("large", "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", 304.1, "mit", 448, TUNED),
    BackboneRow("large", "vit_so400m_patch14_reg1_tipsv2.webli", 413.4, "apache-2.0", 448, FROZEN),
    BackboneRow("large", "vit_large_patch16_dinov3.lvd1689m", 303.1, "dinov3-license", 256, FROZEN),
)
SIZES = {size: next(row for row in CANDIDATES if row.size == size) for size in ("tiny", "small", "medium", "large")}


def backbone_of_size(size: str) -> str:
    """Return the name of the backbone that a size stands for.

    Raises:
        UsageError: there is no such size.

    Example:
        >>> backbone_of_size("small")
        'hgnetv2_b4.ssld_stage2_ft_in1k'
    """
    if size not in SIZES:
        raise UsageError(f"There is no size {size!r} of backbones. {suggest(size, SIZES)}")
    return SIZES[size].name


def terms_of(licence: str) -> Terms:
    """Return what a licence of weights is: free also for products, non-commercial, or something that has to be read.

    Example:
        >>> terms_of("apache-2.0"), terms_of("cc-by-nc-4.0"), terms_of("dinov3-license"), terms_of("")
        ('free', 'non-commercial', 'own terms', 'unknown')
    """
    if licence in ("", "unknown"):
        return "unknown"
    if licence in RESEARCH or re.search(r"\bnc\b|non-?commercial|research", licence):
        return "non-commercial"
    return "free" if licence in FREE else "own terms"
