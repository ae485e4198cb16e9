from __future__ import annotations

import pytest
import timm
import torch

from sadcl_core.config.backbones import CANDIDATES, SIZES, BackboneRow, backbone_of_size, terms_of
from sadcl_core.errors import UsageError
from sadcl_core.model.backbone import Backbone

AVAILABLE = frozenset(timm.list_pretrained())
STRIDES = {row.name: int(row.name.split("_patch")[1][:2]) if "_patch" in row.name else 32 for row in CANDIDATES}


@pytest.mark.parametrize("row", CANDIDATES, ids=lambda row: row.name)
def test_every_row_is_what_timm_says(row: BackboneRow) -> None:
    assert row.name in AVAILABLE
    config = timm.get_pretrained_cfg(row.name)
    assert config is not None
    assert (config.license, config.input_size[-1], config.hf_hub_id) == (row.licence, row.img_size, f"timm/{row.name}")
    with torch.device("meta"):
        network = timm.create_model(row.name, num_classes=0)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(row.millions, abs=0.06)


@pytest.mark.parametrize("name", [row.name for row in CANDIDATES if row.size in ("tiny", "small")])
def test_the_smaller_ones_give_a_feature_map(name: str) -> None:
    stride = STRIDES[name]
    backbone = Backbone(name, stride=stride, img_size=64 // stride * stride, initialise=False).to("meta").eval()
    (features,) = backbone(torch.zeros(1, 3, 64, 64, device="meta"))
    assert features.shape == (1, *backbone.channels, 64 // stride, 64 // stride)


def test_a_size_stands_for_its_first_row() -> None:
    assert list(SIZES) == list(dict.fromkeys(row.size for row in CANDIDATES)) == ["tiny", "small", "medium", "large"]
    assert all(terms_of(row.licence) == "free" for row in SIZES.values())
    assert backbone_of_size("large") == "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k"
    with pytest.raises(UsageError, match=r"There is no size 'huge' of backbones\. Choose from: tiny, small, medium, large"):
        backbone_of_size("huge")


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("resnet50", "free"),
        ("convnextv2_tiny", "non-commercial"),
        ("vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m", "non-commercial"),
        ("regnety_320.seer", "non-commercial"),
        ("vit_small_patch16_dinov3", "own terms"),
    ],
)
def test_terms_of_licences_in_timm(name: str, terms: str) -> None:
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    assert config.license is not None
    assert terms_of(config.license) == terms
