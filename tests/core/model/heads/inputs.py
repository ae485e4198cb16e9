from __future__ import annotations

from torch import Tensor

from sadcl_core.model.heads.interface import HeadInputs


def see(feature_map: Tensor) -> HeadInputs:
    """What a head that reads one map sees."""
    return HeadInputs((feature_map,))
