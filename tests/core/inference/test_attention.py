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
    assert [heat.shape for _, _, heat in maps] == [(4, 4)] * 4
    scores = [score for _, score, _ in maps]
    assert scores == sorted(scores, reverse=True)
    np.testing.assert_allclose([heat.sum() for _, _, heat in maps], 1, atol=1e-5)


def test_labels_by_name(model: Model) -> None:
    assert [k for k, _, _ in attention_maps(model.forward, model.card, IMAGE, labels=["nine", "two"])] == [9, 2]
    with pytest.raises(UsageError, match="Did you mean 'seven'"):
        attention_maps(model.forward, model.card, IMAGE, labels=["sevn"])
