"""How many labels a choice saves: python benchmarks/suggest.py RUN [SEEDS] [STEP] [ROUNDS].

RUN has a frozen backbone whose features are kept (a linear probe). Its training images begin without labels: STEP of them are
labelled by chance, a logistic regression of all labels is fitted on their features, STEP more are chosen, and so on for ROUNDS,
by each way of choosing. Printed are the mAP on the held-out split (percent, interpolated) at each number of labelled images, mean
and deviation over seeds, and with how many labelled images each way reaches what chance reaches at the end.

random        by chance
uncertainty   the largest sum of entropies
suggest       as sadcl suggest: uncertain and unlike one another (there are no prototypes here)
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import torch

from sadcl_core.data.split import Split
from sadcl_core.inference.feature_cache import open_stored
from sadcl_core.inference.load import Model, load_trained
from sadcl_core.inference.split import open_split
from sadcl_core.inference.suggest import choose, entropies
from sadcl_core.metrics import average_precisions
from sadcl_core.model.logistic_regression import fit_logistic_regression

WAYS = ("random", "uncertainty", "suggest")


def features_of(model: Model, split: Split) -> torch.Tensor:
    """Return the pooled features (N, D) of a split, from the disk."""
    linear = model.classifier.linear
    assert linear is not None, "a linear probe"
    with open_stored(model, split) as stored:
        assert stored is not None, "the features of the run are there"
        batches = stored.loader(split, batch_size=64)
        with torch.no_grad():
            return torch.cat(
                [linear.pool(model.classifier.backbone.trained_part(tuple(m.float() for m in maps))[-1]) for maps, *_ in batches]
            )


def chosen(
    way: str, scores: npt.NDArray[np.float32], features: npt.NDArray[np.float32], count: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return the places of the images to label next."""
    if way == "random":
        return np.random.default_rng(seed).permutation(len(scores))[:count]
    uncertainty = entropies(scores)
    if way == "uncertainty":
        return np.argsort(-uncertainty, kind="stable")[:count]
    return choose(uncertainty, features, count=count)


def main(run: str, seeds: int, step: int, rounds: int) -> None:
    """Measure and print."""
    model = load_trained(run, device="cpu", precision="fp32")
    held_out = open_split(model).split
    train = held_out.manifest.split("train")
    features, test = features_of(model, train), features_of(model, held_out)
    targets, truth = torch.from_numpy(train.all_targets().astype(np.int64)), held_out.all_targets()
    maps = np.zeros((len(WAYS), seeds, rounds))
    for seed in range(seeds):
        for number, way in enumerate(WAYS):
            labelled = np.random.default_rng(seed).permutation(len(train))[:step].tolist()
            for place in range(rounds):
                fit = fit_logistic_regression(features[labelled][:, None], targets[labelled], strengths=(100.0,))
                ap = average_precisions(fit.logits(test).numpy(), truth).interpolated
                maps[number, seed, place] = 100 * np.nanmean(ap)
                left = np.setdiff1d(np.arange(len(train)), labelled)
                scores = fit.logits(features[left]).sigmoid().numpy()
                labelled += left[chosen(way, scores, features[left].numpy(), step, 1000 * seed + place)].tolist()
    print("labelled images  " + "  ".join(f"{step * (place + 1):>11}" for place in range(rounds)))
    for number, way in enumerate(WAYS):
        cells = (f"{maps[number, :, place].mean():5.1f} +- {maps[number, :, place].std(ddof=1):3.1f}" for place in range(rounds))
        print(f"{way:15}  " + "  ".join(cells), flush=True)
    goal = maps[0, :, -1].mean()
    for number, way in enumerate(WAYS):
        reached = [next((step * (k + 1) for k in range(rounds) if row[k] >= goal), step * (rounds + 1)) for row in maps[number]]
        print(f"{way}: mAP {goal:.1f} with {np.mean(reached):.0f} +- {np.std(reached, ddof=1):.0f} labelled images")


if __name__ == "__main__":
    main(sys.argv[1], *(int(text) for text in (*sys.argv[2:], *("5", "60", "8")[len(sys.argv) - 2 :])))
