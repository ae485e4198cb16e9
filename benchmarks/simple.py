"""What a simple tool reaches on a data set: scikit-learn on the pooled features of a frozen backbone.

python benchmarks/simple.py DATA --backbone NAME --weights FILE [--img-size 224]

DATA is a prepared folder. Each image is seen as it is, its features are the mean of the last map, standardised. For each class a
logistic regression, with the strength that cross-validation on the training images finds best, and for all classes the mean
label of the nearest neighbours by cosine, their number chosen the same way. mAP is interpolated, in percent, over all classes
and over those with ten or more held-out positives. Nothing is chosen on the held-out images.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler, normalize

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import load_manifest
from sadcl_core.data.split import Split
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.metrics import average_precisions
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.weights import load_pretrained

Array = npt.NDArray[np.float32]
Fit = Callable[[Array, npt.NDArray[np.int8], Array], Array]  # training features and targets, other features -> their scores

COMMON = 10  # held-out positives of a class
FOLDS = 5
STRENGTHS = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0)  # 1 / C
NEIGHBOURS = (3, 5, 10, 20, 40)


def main() -> None:
    """Both rows, as a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    for option, default in (("--backbone", "resnet18"), ("--weights", "hub"), ("--train", "train"), ("--held-out", "val")):
        parser.add_argument(option, default=default)
    parser.add_argument("--img-size", type=int, default=224)
    asked = parser.parse_args()
    manifest = load_manifest(asked.data)
    train, held_out = manifest.split(asked.train), manifest.split(asked.held_out)
    start = time.perf_counter()
    features, others = pooled((train, held_out), asked)
    print(f"{asked.backbone} at {asked.img_size} px, {len(train)} + {len(held_out)} images, {torch.get_num_threads()} threads")
    print(f"features: {time.perf_counter() - start:.0f} s\n")
    print("| method | choice | mAP all | mAP common | seconds |\n| --- | --- | --- | --- | --- |")
    targets = train.all_targets()
    for name, choices, fit in (("logistic regression", STRENGTHS, regress), ("nearest neighbours", NEIGHBOURS, vote)):
        start = time.perf_counter()
        choice = choose(fit, choices, features, targets)
        all_classes, common = maps(fit(choice)(features, targets, others), held_out.all_targets())
        print(f"| {name} | {choice:g} | {all_classes:.2f} | {common:.2f} | {time.perf_counter() - start:.0f} |", flush=True)


@torch.inference_mode()
def pooled(splits: Sequence[Split], asked: argparse.Namespace) -> list[Array]:
    """Return the standardised mean of the last map of each image, (N, D) for each split."""
    section = ModelSection(backbone=asked.backbone, head="pooled")
    classifier = Classifier(section, num_classes=1, img_size=asked.img_size).eval()
    load_pretrained(classifier.backbone, asked.weights)
    config = classifier.backbone.pretrained_config
    preprocessing = Preprocessing(asked.img_size, tuple(config["mean"]), tuple(config["std"]))
    result = []
    for split in splits:
        batches = make_loader(split, preprocessing.resize, batch_size=32, workers=0)
        inputs = (preprocessing.normalise(images) for images, _, _ in batches)
        result.append(torch.cat([classifier.backbone(images)[-1].mean(dim=(2, 3)) for images in inputs]).numpy())
    scale = StandardScaler().fit(result[0])
    return [scale.transform(features) for features in result]


def regress(strength: float) -> Fit:
    """Return logistic regression of each class at a strength; a class that never changes keeps its share."""

    def scores(features: Array, targets: npt.NDArray[np.int8], others: Array) -> Array:
        varies = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
        model = MultiOutputClassifier(LogisticRegression(C=1 / strength, max_iter=200), n_jobs=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features, targets[:, varies])
        result = np.tile((targets == 1).mean(axis=0, dtype=np.float32), (len(others), 1))
        result[:, varies] = np.stack([each[:, 1] for each in model.predict_proba(others)], axis=1)
        return result

    return scores


def vote(neighbours: float) -> Fit:
    """Return the mean label of the nearest neighbours, nearer ones counting more."""

    def scores(features: Array, targets: npt.NDArray[np.int8], others: Array) -> Array:
        model = KNeighborsRegressor(int(neighbours), weights="distance").fit(normalize(features), targets == 1)
        return np.asarray(model.predict(normalize(others)), dtype=np.float32)

    return scores


def choose(fit: Callable[[float], Fit], choices: Sequence[float], features: Array, targets: npt.NDArray[np.int8]) -> float:
    """Return the choice whose log loss on training images left out is least."""
    losses = dict.fromkeys(choices, 0.0)
    for train, rest in KFold(FOLDS, shuffle=True, random_state=1).split(features):
        for choice in choices:
            scores = fit(choice)(features[train], targets[train], features[rest]).clip(1e-3, 1 - 1e-3)
            active = targets[rest] == 1
            losses[choice] -= float(np.where(active, np.log(scores), np.log(1 - scores)).mean())
    return min(losses, key=losses.__getitem__)


def maps(scores: Array, targets: npt.NDArray[np.int8]) -> tuple[float, float]:
    """Return mAP in percent over all classes with a positive, and over the common ones."""
    precisions = 100 * average_precisions(scores, targets).interpolated
    common = (targets == 1).sum(axis=0) >= COMMON
    return float(np.nanmean(precisions)), float(np.nanmean(precisions[common])) if common.any() else float("nan")


if __name__ == "__main__":
    main()
