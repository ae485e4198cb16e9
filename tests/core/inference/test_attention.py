from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sadcl_core.errors import UsageError
from sadcl_core.inference.attention import attention_maps
from sadcl_core.runs.checkpoint import LoadedModel, load_model

CPU = torch.device("cpu")
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(trained: Path) -> LoadedModel:
    return load_model(trained / "runs" / "coco" / "weights" / "best.safetensors")


def test_the_best_labels_in_order(model: LoadedModel) -> None:
    maps = attention_maps(model, IMAGE, device=CPU, most=4)
    assert maps.maps.shape == (4, 4, 4)
    assert list(maps.scores) == sorted(maps.scores, reverse=True)
    np.testing.assert_allclose(maps.maps.sum(axis=(1, 2)), 1, atol=1e-5)


def test_labels_by_name(model: LoadedModel) -> None:
    assert attention_maps(model, IMAGE, device=CPU, names=["nine", "two"]).labels == (9, 2)
    with pytest.raises(UsageError, match="Did you mean 'seven'"):
        attention_maps(model, IMAGE, device=CPU, names=["sevn"])
