from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sadcl_core.config.schema import LossSection, ModelSection
from sadcl_core.errors import UsageError
from sadcl_core.losses import asymmetric_loss
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.second_look import BRANCH, best_regions, cut, regions
from sadcl_core.training.terms import LossInputs, loss_terms

SECTION = ModelSection(
    backbone="test_resnet", stride=16, pretrained=False, head="pooled", projection_width=4, freeze_stride=0, second_look=2
)


def run_by_hand(profile: list[float]) -> tuple[float, float]:
    """First and last place of the run, in 0 .. the length."""
    low, high, count = min(profile), max(profile), len(profile)
    if low == high:
        return count / 8, count * 7 / 8
    first = last = profile.index(high)
    while first > 0 and (profile[first - 1] - low) / (high - low) >= 0.5:
        first -= 1
    while last < count - 1 and (profile[last + 1] - low) / (high - low) >= 0.5:
        last += 1
    middle, side = (first + last + 1) / 2, max(last + 1 - first, count / 8)
    middle = min(max(middle, side / 2), count - side / 2)
    return middle - side / 2, middle + side / 2


def test_regions_by_hand() -> None:
    maps = torch.rand(20, 5, 7, generator=torch.Generator().manual_seed(0)) ** 3
    maps[0], maps[1, 0, 0], maps[2, 4, 6] = 0.1, 50.0, 50.0  # flat, and in the corners
    for one, window in zip(maps, regions(maps, (40, 56)), strict=True):
        large = F.interpolate(one[None, None], (40, 56), mode="bilinear", align_corners=False)[0, 0]
        rows, columns = (run_by_hand(large.amax(dim=axis).tolist()) for axis in (1, 0))
        expected = [2 * place / count - 1 for run, count in ((rows, 40), (columns, 56)) for place in run]
        assert window.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_window_is_the_part_of_the_image_enlarged() -> None:
    images = torch.randn(2, 3, 8, 8)
    windows = torch.tensor([[[-1.0, 0.0, 0.0, 1.0], [-0.5, 0.5, -0.5, 0.5]], [[-1.0, 1.0, -1.0, 1.0], [0.0, 1.0, -1.0, 0.0]]])
    crops = cut(images, windows)
    assert crops.shape == (4, 3, 8, 8)
    for crop, part in ((crops[0], images[0, :, :4, 4:]), (crops[3], images[1, :, 4:, :4])):
        enlarged = F.interpolate(part[None], (8, 8), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(crop[:, 1:-1, 1:-1], enlarged[:, 1:-1, 1:-1])
    torch.testing.assert_close(crops[2], images[1])


def test_the_larger_logits_count_in_use_and_each_has_a_loss_in_training() -> None:
    torch.manual_seed(0)
    classifier, images = Classifier(SECTION, num_classes=3, img_size=32), torch.randn(2, 3, 32, 32)
    once = Classifier(SECTION.model_copy(update={"second_look": 0}), num_classes=3, img_size=32)
    once.load_state_dict(classifier.state_dict())
    once.eval(), classifier.eval()
    first, (maps,) = once(images), once.features(images)
    scores = torch.einsum("bdhw,kd->bkhw", maps, once.head.classifier.weight) + once.head.classifier.bias[:, None, None]
    crops = cut(images, best_regions(scores.sigmoid(), first.logits, count=2, size=(32, 32)))
    local = torch.stack([once(crop[None]).logits[0] for crop in crops]).view(2, 2, 3).amax(dim=1)
    output = classifier(images)
    assert output.attention is None
    torch.testing.assert_close(output.auxiliary[BRANCH], local)
    torch.testing.assert_close(output.logits, torch.maximum(first.logits, local))
    torch.testing.assert_close(output.label_features, first.label_features)
    classifier.train()
    classifier.backbone.eval()
    output, targets = classifier(images), torch.tensor([[1, 0, -1], [0, 1, 1]])
    torch.testing.assert_close(output.logits, first.logits)
    terms = loss_terms(LossInputs(classifier, output, targets, None, LossSection()), ["asymmetric", "auxiliary"])
    torch.testing.assert_close(terms["asymmetric"], asymmetric_loss(first.logits, targets, gamma_neg=0, gamma_pos=0, clip=0))
    torch.testing.assert_close(terms["auxiliary"], asymmetric_loss(local, targets, gamma_neg=0, gamma_pos=0, clip=0))


def test_the_regions_of_a_head_with_attention_are_those_of_its_attention() -> None:
    section = SECTION.model_copy(update={"head": "csra"})
    classifier, images = Classifier(section, num_classes=3, img_size=32).eval(), torch.randn(2, 3, 32, 32)
    first = classifier.classify(classifier.features(images), need_attention=True)
    assert first.attention is not None
    crops = cut(images, best_regions(first.attention, first.logits, count=2, size=(32, 32)))
    local = classifier.classify(classifier.features(crops)).logits.view(2, 2, 3).amax(dim=1)
    output = classifier(images, need_attention=True)
    torch.testing.assert_close(output.logits, torch.maximum(first.logits, local))
    assert output.attention is not None
    torch.testing.assert_close(output.attention, first.attention)


def test_one_class_and_features_alone() -> None:
    classifier = Classifier(SECTION, num_classes=1, img_size=32).eval()
    assert classifier(torch.randn(2, 3, 32, 32)).logits.shape == (2, 1)
    with pytest.raises(UsageError, match="second_look needs the images"):
        classifier((torch.randn(2, 96, 2, 2),))
