from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import load_manifest
from sadcl_core.evaluation.similarity import SimilarityObserver
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.checkpoint import load_model


def test_cosines_of_a_trained_model(trained: Path) -> None:
    model = load_model(trained / "runs" / "coco" / "weights" / "best.safetensors")
    classifier, preprocessing = model.classifier, model.card.preprocessing
    split = load_manifest(trained / "prepared" / "coco").split("val")
    with torch.no_grad():
        classifier.prototypes.copy_(torch.randn_like(classifier.prototypes))  # whichever epoch was the best
    observer = SimilarityObserver(classifier, len(split))
    expected = np.zeros((len(split), 10))
    with torch.inference_mode():
        for images, targets, indices in make_loader(split, preprocessing.resize, batch_size=5, workers=0):
            output = classifier(preprocessing.normalise(images))
            observer(classifier, output, targets, indices)
            for row, index in enumerate(indices.tolist()):
                for k in range(10):
                    feature, prototype = output.label_features[row, k], classifier.prototypes[k]
                    pair = classifier.projection(feature), classifier.projection(prototype)
                    expected[index, k] = F.cosine_similarity(pair[0], pair[1], dim=0)
    observer.gather()
    assert observer.result().dtype == np.float16
    np.testing.assert_allclose(observer.result(), expected, atol=1e-3)
    assert np.abs(expected).max() > 0.1


def test_no_prototypes_no_similarity() -> None:
    config = ModelSection(backbone="test_resnet", stride=16, pretrained=False, heads={"sarl": {"width": 16, "feedforward": 16}})
    with pytest.raises(ValueError, match="no prototypes"):
        SimilarityObserver(Classifier(config, num_classes=3, img_size=32), 4)
