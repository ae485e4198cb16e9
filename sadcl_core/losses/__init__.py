"""Losses: pure functions of tensors. Targets are 1 (active), 0 (inactive) or -1 (unknown, read by `selective_loss` alone)."""

from sadcl_core.losses.asymmetric import asymmetric_loss
from sadcl_core.losses.class_weights import class_weights
from sadcl_core.losses.distillation import distillation_loss
from sadcl_core.losses.focal import focal_loss
from sadcl_core.losses.hill import hill_loss
from sadcl_core.losses.hinge import hinge_loss
from sadcl_core.losses.image_to_image import image_to_image_loss
from sadcl_core.losses.polynomial import polynomial_loss
from sadcl_core.losses.prototype_to_sample import prototype_to_sample_loss
from sadcl_core.losses.sample_to_sample import sample_to_sample_loss
from sadcl_core.losses.selective import selective_loss
from sadcl_core.losses.splc import splc_loss
from sadcl_core.losses.two_way import two_way_loss
from sadcl_core.losses.zlpr import zlpr_loss

__all__ = [
    "asymmetric_loss",
    "class_weights",
    "distillation_loss",
    "focal_loss",
    "hill_loss",
    "hinge_loss",
    "image_to_image_loss",
    "polynomial_loss",
    "prototype_to_sample_loss",
    "sample_to_sample_loss",
    "selective_loss",
    "splc_loss",
    "two_way_loss",
    "zlpr_loss",
]
