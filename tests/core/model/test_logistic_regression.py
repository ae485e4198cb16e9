from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from sadcl_core.model.logistic_regression import fit_logistic_regression


def scenes(images: int = 120, width: int = 12, views: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features (N, V, D) of other scales and offsets, and targets (N, 3) that a linear rule and noise decide."""
    rng = np.random.default_rng(seed)
    pure = rng.normal(size=(images, width))
    logits = pure @ rng.normal(size=(width, 3)) + rng.normal(size=(images, 3)) - [0, 1, 2]
    scales, offsets = rng.uniform(0.1, 10, size=width), rng.normal(size=width)
    features = (pure[:, None] + 0.1 * rng.normal(size=(images, views, width))) * scales + offsets
    return torch.tensor(features, dtype=torch.float32), torch.tensor((logits > 0).astype(np.int8))


@pytest.mark.parametrize("width", [12, 200], ids=["more images", "more features"])
def test_agrees_with_scikit_learn(width: int) -> None:
    features, targets = scenes(width=width)
    fit = fit_logistic_regression(features, targets, strengths=(2.0,))
    standardised = ((features[:, 0] - fit.mean) / fit.deviation).numpy()
    for label in range(3):
        expected = LogisticRegression(C=0.5, tol=1e-8, max_iter=1000).fit(standardised, targets[:, label].numpy())
        np.testing.assert_allclose(fit.weight[label], expected.coef_[0], atol=2e-3)
        np.testing.assert_allclose(fit.bias[label], expected.intercept_[0], atol=2e-3)
        np.testing.assert_allclose(fit.logits(features[:, 0])[:, label], expected.decision_function(standardised), atol=2e-2)


def test_chooses_the_strength_that_is_best_on_images_left_out() -> None:
    features, targets = scenes(images=60, width=100)
    fit = fit_logistic_regression(features, targets)
    assert fit.strength == min(fit.losses, key=fit.losses.__getitem__)
    assert fit.losses[fit.strength] < fit.losses[3000.0]
    repeated = fit_logistic_regression(features, targets)
    torch.testing.assert_close(repeated.weight, fit.weight)
    assert repeated.losses == fit.losses


def test_an_unknown_target_changes_nothing() -> None:
    features, targets = scenes()
    partly = targets.clone()
    partly[3, 1] = -1
    fit, complete = (fit_logistic_regression(features, labels, strengths=(1.0,)) for labels in (partly, targets))
    torch.testing.assert_close(fit.weight[[0, 2]], complete.weight[[0, 2]], atol=2e-3, rtol=0)
    known = torch.arange(len(targets)) != 3
    standardised = ((features[:, 0] - fit.mean) / fit.deviation).numpy()
    expected = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(standardised[known], targets[known, 1].numpy())
    np.testing.assert_allclose(fit.weight[1], expected.coef_[0], atol=2e-3)


def test_views_of_an_image_count_as_one_image() -> None:
    features, targets = scenes(images=40)
    doubled = fit_logistic_regression(features.expand(-1, 2, -1), targets)
    single = fit_logistic_regression(features, targets)
    torch.testing.assert_close(doubled.weight, single.weight, atol=5e-3, rtol=0)
    for strength, loss in single.losses.items():
        assert doubled.losses[strength] == pytest.approx(loss, abs=2e-3)  # and not the near 0 of images that were seen


def test_a_label_that_is_always_or_never_active_gets_its_odds() -> None:
    features, targets = scenes()
    targets[:, 0], targets[:, 1] = 0, 1
    fit = fit_logistic_regression(features, targets, strengths=(1.0,))
    assert not fit.weight[:2].any()
    assert fit.bias[:2].tolist() == pytest.approx([np.log(0.5 / 120.5), np.log(120.5 / 0.5)])
    assert fit.weight[2].any()
    nothing = fit_logistic_regression(features, torch.zeros_like(targets))
    assert not nothing.weight.any()


def test_a_constant_feature_and_few_images_are_no_trouble() -> None:
    features, targets = scenes(images=5)
    features[..., 0] = 7.0
    fit = fit_logistic_regression(features, targets)
    assert fit.logits(features[:, 0]).isfinite().all()
    with pytest.raises(ValueError, match="at least 5"):
        fit_logistic_regression(features[:3], targets[:3])
