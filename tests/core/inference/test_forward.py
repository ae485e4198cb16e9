from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.errors import MachineError, NotFiniteError, UsageError
from sadcl_core.inference.forward import Forward
from sadcl_core.model.classifier import Classifier

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
IMAGES = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(
        ModelSection(backbone="test_resnet", stride=16, heads={"sarl": {"width": 16, "feedforward": 16}}, projection_width=8),
        num_classes=5,
        img_size=64,
    )


def test_the_classifier_on_normalised_images(classifier: Classifier) -> None:
    output = Forward(classifier, PREPROCESSING, device=CPU)(IMAGES, need_attention=True)
    assert not classifier.training
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESSING.mean, PREPROCESSING.std))
    expected = classifier((IMAGES.float() / 255 - mean) / std, need_attention=True)
    assert output.attention is not None
    assert expected.attention is not None
    for name in ("logits", "label_features", "image_features", "attention"):
        assert torch.equal(getattr(output, name), getattr(expected, name)), name
    assert not output.logits.requires_grad
    assert Forward(classifier, PREPROCESSING, device=CPU)(IMAGES).attention is None


def test_a_large_photo_is_read_whole_as_an_array_of_it_would_be(classifier: Classifier, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    read = Forward(classifier, PREPROCESSING, device=CPU).read
    assert torch.equal(read(tmp_path / "a.jpg"), read(np.array(Image.open(tmp_path / "a.jpg"))))


@pytest.mark.parametrize(("tta", "views"), [("none", 1), ("flip", 2), ("crops", 6)])
def test_logits_are_means_over_views(classifier: Classifier, tta: str, views: int) -> None:
    plain = Forward(classifier, PREPROCESSING, device=CPU)
    seen = [IMAGES]
    if tta == "flip":
        seen.append(IMAGES.flip(-1))
    elif tta == "crops":
        for top, left in ((0, 0), (0, 8), (8, 0), (8, 8), (4, 4)):
            crop = IMAGES[..., top : top + 56, left : left + 56].float()
            seen.append(torch.nn.functional.interpolate(crop, size=(64, 64), mode="bilinear", align_corners=False))
    assert len(seen) == views
    output = Forward(classifier, PREPROCESSING, device=CPU, tta=tta)(IMAGES, need_attention=True)
    expected = torch.stack([plain(images).logits for images in seen]).mean(dim=0)
    torch.testing.assert_close(output.logits, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.label_features, plain(IMAGES).label_features)
    assert output.attention is not None


def test_a_batch_that_cannot_fit_is_refused_before_it_takes_memory(classifier: Classifier) -> None:
    forward = Forward(classifier, PREPROCESSING, device=CPU)
    with pytest.raises(MachineError, match=r"^10,000,000,000 images of 64 px at a time take .* GiB at least.*--batch-size"):
        forward(IMAGES[:1].expand(10**10, 3, 64, 64))
    assert forward(IMAGES).logits.shape == (3, 5)


def test_an_unknown_augmentation_is_refused(classifier: Classifier) -> None:
    with pytest.raises(UsageError, match=r"no test-time augmentation called 'flop'\. Did you mean 'flip'"):
        Forward(classifier, PREPROCESSING, device=CPU, tta="flop")


def test_embeddings_of_length_one(classifier: Classifier) -> None:
    forward = Forward(classifier, PREPROCESSING, device=CPU, precision="bf16")
    output = forward(IMAGES)
    assert output.label_features.dtype == torch.bfloat16
    embeddings = forward.project(output.label_features)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3, 5), atol=1e-2, rtol=0)


def test_nan_is_refused_where_asked(classifier: Classifier) -> None:
    with torch.no_grad():
        classifier.head.bias.fill_(float("nan"))
    forward = Forward(classifier, PREPROCESSING, device=CPU)
    assert forward(IMAGES).logits.isnan().all()
    with pytest.raises(NotFiniteError, match="gives NaN"):
        forward(IMAGES, refuse_nan=True)


def test_statistics_on_the_device_can_be_trained_through() -> None:
    """The tensors of mean and std are made in inference mode first, and used in training later."""
    preprocessing = Preprocessing(64, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    with torch.inference_mode():
        preprocessing.normalise(IMAGES)
    weight = torch.ones(1, requires_grad=True)
    (preprocessing.normalise(IMAGES) * weight).sum().backward()
    assert weight.grad is not None
