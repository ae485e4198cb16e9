"""The fitted linear layer, the epoch that is kept, and the epochs that a time budget leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sadcl_core.config.layers import load_config_file
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import UsageError
from sadcl_core.inference.embed_split import write_embeddings
from sadcl_core.inference.embedding_index import open_index
from sadcl_core.inference.figures import draw_embeddings
from sadcl_core.inference.load import load_trained
from sadcl_core.inference.search import duplicates, outliers, search
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.model.logistic_regression import fit_logistic_regression
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.training.listeners.events import (
    EpochDone,
    EpochsPlanned,
    Event,
    LinearFitted,
    PassProgress,
    StageStarted,
    StepDone,
)
from sadcl_core.training.recipe import TrainingRecipe
from tests.core.training.resumable import configured, differences, go_on, numbers, start, weights_file

pytestmark = pytest.mark.usefixtures("here")

BRANCH: dict[str, Any] = {"model": {"global_branch": "mean"}, "optim": {"solve_linear": True}}
ONCE: dict[str, Any] = {"features": {"once": True, "cache": "cache"}}
PROBE: dict[str, Any] = {"method": "linear-probe", "model": {"freeze_stride": 64}, "features": {"cache": "cache"}}
MAP = "mAP_interpolated"


def planned(budget: float, manifest: Manifest, name: str, *more: dict[str, Any], source: str = "--set") -> list[Event]:
    """The events of a run of two stages of two epochs and one, whose epochs the recipe chose."""
    made = configured((2, 1), {"optim": {"time_budget": budget}}, *more)
    epochs = {f"stages.{stage}.epochs": "preset small" for stage in made.config.stages}
    sources = {**made.sources, **epochs, "optim.time_budget": source}
    heard: list[Event] = []
    start(type(made)(made.config, sources, made.why), manifest, Path(name), heard.append)
    return heard


def test_a_linear_probe_is_logistic_regression_on_the_pooled_features(manifest: Manifest) -> None:
    heard: list[Event] = []
    start(configured((0, 0), PROBE, {"model": {"pretrained": weights_file()}}), manifest, Path("probe"), heard.append)
    (fitted,) = [event for event in heard if isinstance(event, LinearFitted)]
    assert not [event for event in heard if isinstance(event, StepDone)]
    passes = {event.what: (event.done, event.total) for event in heard if isinstance(event, PassProgress)}
    assert list(passes) == ["pooling features", "cross-validating the linear layer", "scoring held-out images"]
    pooled_all, fits, scored_all = passes.values()
    assert pooled_all == (2 * len(manifest.split("train")),) * 2  # both views
    assert 0 < fits[0] <= fits[1]
    assert scored_all[0] == scored_all[1]
    (row,) = numbers(Path("probe"))
    assert (row["stage"], row["epoch"], float(row[MAP])) == ("linear", "1", fitted.map)
    assert json.loads(Path("probe/run.json").read_text())["best"]["stage"] == "linear"

    model = load_trained("probe")
    split = manifest.split("train")
    pooled = []
    for mirrored in (False, True):  # the two views that it was fitted on
        (images, _, _), *_ = make_loader(split, model.preprocessing.resize, batch_size=24, workers=0)
        with torch.inference_mode():
            maps = model.classifier.features(model.preprocessing.normalise(images.flip(-1) if mirrored else images))
        pooled.append(model.classifier.head.pool(maps[-1]))
    fit = fit_logistic_regression(torch.stack(pooled, dim=1), torch.from_numpy(split.all_targets()), seed=1)
    assert fit.strength == fitted.strength
    expected = fit.logits(pooled[0]).sigmoid()
    with torch.inference_mode():
        actual = model.classifier.classify(
            maps if not mirrored else model.classifier.features(model.preprocessing.normalise(images))
        )
    torch.testing.assert_close(actual.logits.sigmoid(), expected, atol=2e-2, rtol=0)  # features are kept in half precision


@pytest.mark.parametrize("once", [{}, ONCE], ids=["from images", "from features"])
def test_a_run_goes_on_from_the_fitted_layer_exactly(manifest: Manifest, once: dict[str, Any]) -> None:
    heard: list[Event] = []
    more = {**BRANCH, "model": {**BRANCH["model"], "freeze_stride": 8}}
    start(configured((2, 1), more, once), manifest, Path("one"), heard.append)
    kinds = [type(event) for event in heard if isinstance(event, LinearFitted | StageStarted | EpochDone)]
    assert kinds == [LinearFitted, StageStarted, EpochDone, EpochDone, StageStarted, EpochDone]
    assert [row["stage"] for row in numbers(Path("one"))] == ["linear", "classification", "classification", "contrastive"]
    steps = 0

    def stop(event: Event) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if steps == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(configured((2, 1), more, once), manifest, Path("stopped"), stop)
    go_on(Path("stopped"), manifest)
    assert differences(Path("one"), Path("stopped")) == []


def test_a_head_without_a_linear_layer_has_none_to_be_fitted(manifest: Manifest) -> None:
    with pytest.raises(UsageError, match=r"--set model\.global_branch=mean"):
        start(configured((1, 0), {"optim": {"solve_linear": True}}), manifest, Path("run"))
    assert not Path("run").exists()


def test_a_linear_probe_needs_a_backbone_that_was_trained(manifest: Manifest) -> None:
    with pytest.raises(
        UsageError, match=r"backbone that nobody trained says nothing about images\. Give it weights: --pretrained"
    ):
        start(configured((0, 0), PROBE), manifest, Path("run"))
    assert not Path("run").exists()


def test_the_last_epoch_is_kept_where_nothing_is_chosen_on_the_images_held_out(manifest: Manifest) -> None:
    maps = iter((50.0, 40.0, 30.0))

    class Falling(TrainingRecipe):
        def evaluate(self, classifier: Classifier) -> dict[str, float]:
            return dict.fromkeys((MAP, "mAP_non_interpolated"), next(maps))

    start(configured((3, 0), {"optim": {"select": "last"}}), manifest, Path("run"), recipe_class=Falling)
    best, last = (load_model(Path(f"run/weights/{name}.safetensors")) for name in ("best", "last"))
    assert best.card.trained["epoch"] == 3
    assert all(
        torch.equal(a, b)
        for a, b in zip(best.classifier.state_dict().values(), last.classifier.state_dict().values(), strict=True)
    )


def test_epochs_are_evaluated_every_so_often_and_the_last_one_always(manifest: Manifest) -> None:
    def run(name: str, every: int, **options: Any) -> None:
        start(configured((5, 1), {"optim": {"evaluate_every": every}}), manifest, Path(name), **options)

    run("all", 1)
    run("some", 2)
    shown = [row for row in numbers(Path("all")) if (row["stage"], row["epoch"]) not in {("classification", e) for e in "13"}]
    assert numbers(Path("some"))[:3] == shown[:3]
    assert [row["epoch"] for row in numbers(Path("some"))] == ["2", "4", "5", "1"]

    steps = 0

    def stop(event: Event) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if steps == 13:  # the first of the fourth epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("stopped", 2, listen=stop)
    go_on(Path("stopped"), manifest)
    assert differences(Path("some"), Path("stopped")) == []


def test_a_time_budget_chooses_the_epochs_once_and_they_stay(manifest: Manifest) -> None:
    heard = planned(1e6, manifest, "long")
    (plan,) = [event for event in heard if isinstance(event, EpochsPlanned)]
    assert plan.epochs == plan.most == {"classification": 6, "contrastive": 3}  # three times as long, and no longer
    config = RunConfig.model_validate(load_config_file(Path("long/config.yaml")))
    assert {name: stage.epochs for name, stage in config.stages.items()} == plan.epochs
    assert config.optim.time_budget == 0
    assert plan.step_seconds > 0
    start(configured((6, 3)), manifest, Path("same"))
    assert differences(Path("long"), Path("same")) == []  # the steps that were timed left nothing behind


def test_a_recipe_with_a_time_budget_of_its_own_is_only_made_shorter(manifest: Manifest) -> None:
    (plan,) = [event for event in planned(1e6, manifest, "run", source="auto: 24 images") if isinstance(event, EpochsPlanned)]
    assert plan.epochs == {"classification": 2, "contrastive": 1}
    assert plan.most == {"classification": 6, "contrastive": 3}


def test_without_time_one_epoch_is_trained_or_none_beside_a_fitted_layer(manifest: Manifest) -> None:
    (plan,) = [event for event in planned(1e-3, manifest, "short") if isinstance(event, EpochsPlanned)]
    assert plan.epochs == {"classification": 1, "contrastive": 1}
    heard = planned(1e-3, manifest, "linear", BRANCH)
    assert next(event for event in heard if isinstance(event, EpochsPlanned)).epochs == {"classification": 0, "contrastive": 0}
    assert [row["stage"] for row in numbers(Path("linear"))] == ["linear"]


def test_of_a_head_without_an_epoch_nothing_is_shown_as_learned(manifest: Manifest) -> None:
    planned(1e-3, manifest, "linear", BRANCH)
    start(configured((1, 0), BRANCH, {"optim": {"select": "last"}}), manifest, Path("epoch"))
    assert load_trained("epoch").card.head_is_trained
    model, split = load_trained("linear"), manifest.split("val")
    assert not model.card.head_is_trained
    pixels = next(iter(make_loader(split, model.preprocessing.resize, batch_size=4, workers=0)))[0]
    maps = model.classifier.features(model.preprocessing.normalise(pixels))
    branch = model.classifier.global_branch
    assert branch is not None
    shown = model.forward(pixels, need_attention=True).attention
    torch.testing.assert_close(shown, branch(HeadInputs(maps[-1:]), need_attention=True).attention)

    write_embeddings(model, split, Path("index"), workers=0)
    index = open_index(Path("index"))
    assert duplicates(index, cosine=-1)  # by whole images
    label = index.labels.table["label"][0].as_py()
    with pytest.raises(UsageError, match="no features of labels that mean something"):
        search(index, label=label)
    with pytest.raises(UsageError, match="no features of labels that mean something"):
        outliers(index)
    with pytest.raises(UsageError, match="no features of labels to draw"):
        draw_embeddings([("", model)], split, Path("figure.png"), workers=0)


def test_epochs_of_the_user_stay(manifest: Manifest) -> None:
    heard: list[Event] = []
    start(configured((2, 1), {"optim": {"time_budget": 1e-3}}), manifest, Path("run"), heard.append)
    assert not [event for event in heard if isinstance(event, EpochsPlanned)]
    assert [row["epoch"] for row in numbers(Path("run"))] == ["1", "2", "1"]
