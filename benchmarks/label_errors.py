"""How many labels that were flipped on purpose are found again: python benchmarks/label_errors.py [SEEDS] [EPOCHS].

With `listed SCORES.npz DATA`, which sadcl eval --save-scores wrote of split test of a prepared data set, only how many labels are
listed, and how many of them were flipped: all that the scores contradict, as many as are estimated, and by cleanlab's filter for
many labels (pip install cleanlab) on the scores as they are and as probabilities; for several shares of images with a flip.

In 5 % of the images of the built-in data one label is taken away or one is added, each half the time. The preset `digits` is
trained once per seed on labels as they are and once with flips in the training part (EPOCHS of its two stages, such as 13,5,
are those of the recipe unless given). Then all labels are ranked by suspicion, and of the first as many as were flipped the
share that was is printed, in percent: the mean, its standard error over seeds, and the mean by kind.

held-out          flips in the held-out part only, 10 draws of them for each model; it is trained on labels as they are
held-out, noisy   the same for the model that was trained with flips
training          the flips in the training part, by the model that was trained with them

chance            labels in any order, on average
self-confidence   the score of what is told (Northcutt et al., JAIR 2021)
margin            suspected_label_errors from the scores alone
prototype         the same from the cosines of label features and prototypes alone
both              suspected_label_errors from scores and cosines
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit, logit

from sadcl_core.config.presets import configure
from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import Manifest, load_manifest
from sadcl_core.data.prepare.prepare import find_or_prepare
from sadcl_core.data.rows import Record
from sadcl_core.data.split import Split
from sadcl_core.evaluation.similarity import SimilarityObserver
from sadcl_core.inference.score import score
from sadcl_core.metrics.label_errors import contradiction, fit_log_odds, logits, suspected_label_errors
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.training.run import start_run

SHARE = 0.05  # of the images
DRAWS = 10  # of flips in the held-out part, where no training depends on them
CPU = torch.device("cpu")

Targets = npt.NDArray[np.int8]
Result = dict[str, tuple[float, float, float]]  # of each ranking: percent found of all, of missing and of wrong labels


def flipped(targets: Targets, rng: np.random.Generator, share: float = SHARE) -> Targets:
    """Targets (N, K), in some images one label taken away or one added."""
    told = targets.copy()
    for image in rng.choice(len(told), round(share * len(told)), replace=False):
        active, inactive = np.flatnonzero(targets[image] == 1), np.flatnonzero(targets[image] == 0)
        away = len(active) and (rng.random() < 0.5 or not len(inactive))
        told[image, rng.choice(active if away else inactive)] ^= 1
    return told


def listed(scores_file: Path, data: Path) -> None:
    """Print how many labels each way lists / how many of them were flipped."""
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

    scores = np.load(scores_file)["scores"]
    truth = load_manifest(data).split("test").all_targets()
    for share in (0.0, 0.02, 0.05, 0.1):
        counts: dict[str, list[tuple[int, int]]] = {}
        for seed in range(3 if share else 1):
            told = flipped(truth, np.random.default_rng(seed), share)
            known, wrong = told >= 0, told != truth
            ways = {name: np.zeros(told.shape, dtype=bool) for name in ("contradicted", "as many as estimated")}
            for way, bounded in zip(ways.values(), (False, True), strict=True):
                for one in suspected_label_errors(scores, told, most=told.size, bounded=bounded):
                    way[one.image, one.label] = True
            weights = fit_log_odds([logits(scores)], told)
            assert weights is not None, "labels of both kinds"
            odds = weights[0] * logits(scores) + weights[1] + logit((told[known] == 1).mean()) / 2
            labels = [np.flatnonzero(row == 1).tolist() for row in told]
            for name, values in (("cleanlab, scores", scores), ("cleanlab, probabilities", expit(odds))):
                issues = np.asarray(find_multilabel_issues_per_class(labels, values.astype(np.float64)))
                ways[name] = (issues if issues.shape == told.shape else issues.T) & known
            for name, way in ways.items():
                counts.setdefault(name, []).append((int(way.sum()), int((way & wrong).sum())))
            counts.setdefault("flipped", []).append((int(wrong.sum()), int(wrong.sum())))
        means = {name: np.mean(pairs, axis=0) for name, pairs in counts.items()}
        print(f"{share:5.0%}  " + ", ".join(f"{name} {all_:.0f}/{hits:.0f}" for name, (all_, hits) in means.items()), flush=True)


def targets_of(split: Split) -> Targets:
    """(N, K)."""
    return np.stack([split.targets(image) for image in range(len(split))])


def told_otherwise(manifest: Manifest, split: str, told: Targets) -> Manifest:
    """The same images, with other labels in one split."""

    def records() -> Iterator[Record]:
        for name in manifest.splits:
            images = manifest.split(name)
            labels = told if name == split else targets_of(images)
            for image, row in zip(images, labels, strict=True):
                yield Record(image, name, tuple(np.flatnonzero(row == 1).tolist()))

    return Manifest.from_records(replace(manifest.description), records())


def trained(manifest: Manifest, seed: int, epochs: tuple[int, int] | None) -> Path:
    """The best model file of a run of the preset `digits`."""
    said: dict[str, object] = {"seed": seed, "device": "cpu", "data": {"workers": 0}}
    if epochs:
        said["stages"] = {name: {"epochs": n} for name, n in zip(("classification", "contrastive"), epochs, strict=True)}
    name = manifest.description.name
    configured = configure([("flag", said)], dataset=name, split_sizes=manifest.split_sizes, preset="digits")
    run = RunDirectory(Path("run"))
    start = time.perf_counter()
    result = start_run(configured.config, configured.sources, manifest, run, exist_ok=True)
    print(f"seed {seed}: mAP {result.best_map:.1f} held out, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return run.best


def seen(path: Path, split: Split) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.float16]]:
    """Scores and cosines (N, K) of a model."""
    model = load_model(path)
    observer = SimilarityObserver(model.classifier, len(split))
    loader = make_loader(split, model.card.preprocessing.resize, batch_size=100, workers=0)
    scored = score(model.classifier, loader, card=model.card, device=CPU, observers=[observer])
    return scored.scores, observer.result()


def found(scores: npt.NDArray[np.floating], similarity: npt.NDArray[np.float16], told: Targets, truth: Targets) -> Result:
    """What each ranking finds again."""
    most = int((told != truth).sum())

    def first(suspicion: npt.NDArray[np.floating]) -> list[tuple[int, int]]:
        best = np.argsort(-suspicion.ravel(), kind="stable")[:most]
        return [(int(place) // told.shape[1], int(place) % told.shape[1]) for place in best]

    alone = suspected_label_errors(scores, told, most=most, bounded=False)
    both = suspected_label_errors(scores, told, similarity=similarity, most=most, bounded=False)
    weights = fit_log_odds([similarity], told)
    assert weights is not None, "labels of both kinds"
    rankings = {
        "self-confidence": first(np.where(told == 1, -1, 1) * logits(scores)),
        "margin": [(one.image, one.label) for one in alone],
        "prototype": first(contradiction([similarity], told, weights)),
        "both": [(one.image, one.label) for one in both],
    }
    chance = 100 * most / told.size
    return {"chance": (chance,) * 3, **{name: counted(pairs, told, truth) for name, pairs in rankings.items()}}


def counted(pairs: list[tuple[int, int]], told: Targets, truth: Targets) -> tuple[float, float, float]:
    """Percent of the flipped, of the missing and of the wrong labels that are among the pairs."""
    chosen = np.zeros(told.shape, dtype=bool)
    chosen[tuple(np.array(pairs, dtype=np.int64).reshape(-1, 2).T)] = True
    bad = told != truth
    kinds = (bad, bad & (told == 0), bad & (told == 1))
    return tuple(100 * float(chosen[kind].mean()) for kind in kinds)  # type: ignore[return-value]


def measure(manifest: Manifest, seed: int, epochs: tuple[int, int] | None) -> dict[str, list[Result]]:
    """All situations of one seed."""
    held_out, truth = manifest.split("test"), targets_of(manifest.split("test"))
    true_training = targets_of(manifest.split("train"))
    told_training = flipped(true_training, np.random.default_rng([seed, 0]))
    draws = [flipped(truth, np.random.default_rng([seed, 1, draw])) for draw in range(DRAWS)]
    results: dict[str, list[Result]] = {}
    model = trained(manifest, seed, epochs)
    looked = seen(model, held_out)
    results["held-out"] = [found(*looked, told, truth) for told in draws]
    model = trained(told_otherwise(manifest, "train", told_training), seed, epochs)
    looked = seen(model, held_out)
    results["held-out, noisy"] = [found(*looked, told, truth) for told in draws]
    results["training"] = [found(*seen(model, manifest.split("train")), told_training, true_training)]
    return results


def main(seeds: int, epochs: tuple[int, int] | None) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        manifest = find_or_prepare("digits").manifest
        of_seeds = [measure(manifest, seed, epochs) for seed in range(seeds)]
    print(
        f"{SHARE:.0%} of the images with one label flipped, {seeds} seeds; percent found among the first as many as were flipped"
    )
    print(f"{'':17}{'':17}{'all':>6}{'+-':>6}{'missing':>9}{'wrong':>7}")
    for situation in of_seeds[0]:
        for name in of_seeds[0][situation][0]:
            means = np.array([np.mean([draw[name] for draw in one[situation]], axis=0) for one in of_seeds])  # (seeds, 3)
            error = means[:, 0].std(ddof=1) / seeds**0.5 if seeds > 1 else float("nan")
            all_, missing, wrong = means.mean(axis=0)
            print(f"{situation:17}{name:17}{all_:6.1f}{error:6.1f}{missing:9.1f}{wrong:7.1f}")


if __name__ == "__main__" and sys.argv[1:2] == ["listed"]:
    listed(*map(Path, sys.argv[2:4]))
elif __name__ == "__main__":
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    first, _, second = sys.argv[2].partition(",") if len(sys.argv) > 2 else ("", "", "")
    main(seeds, (int(first), int(second)) if first else None)
