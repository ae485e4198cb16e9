from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.errors import UsageError
from sadcl_core.inference.attention import attention_maps
from sadcl_core.inference.load import Model, load_trained

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load_trained(trained / "runs" / "coco" / "weights" / "best.safetensors")


def test_the_best_labels_in_order(model: Model) -> None:
    maps = attention_maps(model.forward, model.card, IMAGE, topk=4)
    assert maps.maps.shape == (4, 4, 4)
    assert list(maps.scores) == sorted(maps.scores, reverse=True)
    np.testing.assert_allclose(maps.maps.sum(axis=(1, 2)), 1, atol=1e-5)


def test_labels_by_name(model: Model) -> None:
    assert attention_maps(model.forward, model.card, IMAGE, labels=["nine", "two"]).labels == (9, 2)
    with pytest.raises(UsageError, match="Did you mean 'seven'"):
        attention_maps(model.forward, model.card, IMAGE, labels=["sevn"])
