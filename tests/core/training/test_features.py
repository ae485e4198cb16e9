"""Runs whose backbone is frozen, on features that are computed once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sadcl_core.config.layers import load_config_file
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest, load_manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.data.rows import Record
from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.evaluate import evaluate
from sadcl_core.inference.feature_store import clear_features, stored_features
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.training.listeners.events import (
    Event,
    FeaturesComputed,
    FeaturesPlanned,
    FeaturesProgress,
    StepDone,
    ViewsPlanned,
)
from sadcl_core.training.setup import check_stages
from tests.conftest import make_coco
from tests.core.training.resumable import configured, differences, go_on, numbers, start, tensors, weights_file

pytestmark = pytest.mark.usefixtures("here")

FROZEN: dict[str, Any] = {
    "features": {"once": True, "cache": "cache", "views": 3},
    "model": {"freeze_stride": 64},
    "stages": {"contrastive": {"augment": "shift-and-turn"}},
}
PROBE: dict[str, Any] = {"method": "linear-probe", "stages": {"classification": {"augment": "shift-and-turn"}}}
VIEWS = 24 * 5 + 12  # plain, mirror, crop-1, shift-1, shift-2 of images to train on, plain of those held out


def counts(heard: list[Event]) -> tuple[int, int]:
    """Rows that a run needs, and those that it computed."""
    planned = next(event for event in heard if isinstance(event, FeaturesPlanned))
    return planned.rows, next(event for event in heard if isinstance(event, FeaturesComputed)).rows


def stopping_at(step: int) -> Callable[[Event], None]:
    steps = 0

    def listen(event: Event) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if steps == step:
            raise KeyboardInterrupt

    return listen


def test_features_are_computed_once_and_runs_are_exact(manifest: Manifest) -> None:
    heard: list[list[Event]] = [[], [], []]
    start(configured((2, 1), FROZEN), manifest, Path("one"), heard[0].append)
    start(configured((2, 1), FROZEN), manifest, Path("again"), heard[1].append)
    assert [counts(events) for events in heard[:2]] == [(VIEWS, VIEWS), (VIEWS, 0)]
    assert differences(Path("one"), Path("again")) == []
    assert [(entry.images, entry.rows, entry.in_use) for entry in stored_features(Path("cache"))] == [(36, VIEWS, False)]

    with pytest.raises(KeyboardInterrupt):
        start(configured((2, 1), FROZEN), manifest, Path("stopped"), stopping_at(10))
    go_on(Path("stopped"), manifest, heard[2].append)
    assert counts(heard[2]) == (VIEWS, 0)
    assert differences(Path("one"), Path("stopped")) == []

    backbone = {key: value for key, value in tensors(Path("one")).items() if ":backbone." in key or ".backbone." in key}
    names = {key.rpartition("backbone.")[2] for key in backbone}
    for name in names:
        values = [value for key, value in backbone.items() if key.endswith(f"backbone.{name}")]
        assert all(torch.equal(values[0], value) for value in values[1:]), name


def test_a_time_budget_leaves_fewer_views_where_many_are_missing(tmp_path: Path) -> None:
    manifest = prepare("coco", data=make_coco(tmp_path / "coco", train=100), output=tmp_path / "prepared").manifest
    probe = {**PROBE, "model": {"pretrained": weights_file()}}

    def views(name: str, budget: float, source: str = "auto: a CPU") -> tuple[int, list[ViewsPlanned]]:
        made = configured((0, 0), FROZEN, probe, {"optim": {"time_budget": budget}})
        heard: list[Event] = []
        start(type(made)(made.config, {**made.sources, "features.views": source}, made.why), manifest, Path(name), heard.append)
        stored = load_config_file(Path(name) / "config.yaml")["features"]["views"]
        return stored, [event for event in heard if isinstance(event, ViewsPlanned)]

    assert views("own", 1e-3, "--set") == (3, [])
    clear_features(Path("cache"))
    count, (planned,) = views("short", 1e-3)
    assert (count, planned.views, planned.most) == (1, 1, 3)
    assert planned.seconds > 0
    assert views("long", 1e6)[0] == 3
    count, (planned,) = views("after", 1e-3)
    assert (count, planned.seconds) == (3, 0)


def test_an_interruption_while_features_are_computed_leaves_no_run(manifest: Manifest) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, FeaturesProgress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(configured((1, 0), FROZEN), manifest, Path("run"), interrupt)
    assert not Path("run").exists()
    heard: list[Event] = []
    start(configured((1, 0), FROZEN), manifest, Path("run"), heard.append)
    assert 0 < counts(heard)[1] < counts(heard)[0]


def test_the_layers_above_the_frozen_ones_are_trained(manifest: Manifest) -> None:
    last = {**FROZEN, "model": {"freeze_stride": 8}}
    start(configured((2, 1), last), manifest, Path("one"), lambda event: None)
    with pytest.raises(KeyboardInterrupt):
        start(configured((2, 1), last), manifest, Path("stopped"), stopping_at(10))
    go_on(Path("stopped"), manifest, lambda event: None)
    assert differences(Path("one"), Path("stopped")) == []
    (entry,) = stored_features(Path("cache"))
    assert (entry.card.stride, entry.rows) == (8, VIEWS)
    start(configured((1, 0), FROZEN), manifest, Path("frozen"), lambda event: None)
    trained, frozen = (load_model(Path(name) / "weights/last.safetensors").classifier.backbone for name in ("one", "frozen"))
    moved = {name for name, tensor in trained.named_parameters() if not torch.equal(tensor, frozen.get_parameter(name))}
    assert {name.split(".")[1] for name in moved} == {"layer3"}  # at stride 16, the deepest map


@pytest.mark.parametrize(
    ("stage", "match"),
    [
        ({"mixup": 0.2}, "mix pixels"),
        ({"cutmix": 0.2}, "mix pixels"),
        ({"mix": "splice"}, "mix pixels"),
        ({"losses": {"asymmetric": 1.0, "distillation": 1.0}}, "teachers of the loss distillation look at images"),
        ({"views": 3}, r"--set features.views=3"),
    ],
)
def test_what_features_cannot_do_is_refused(stage: dict[str, Any], match: str) -> None:
    values = {"augment": "flip-and-crop", **stage}
    config = RunConfig.model_validate({"features": {"once": True}, "stages": {"classification": values}})
    with pytest.raises(UsageError, match=match):
        check_stages(config)


@pytest.mark.parametrize(
    ("head", "loss", "match"),
    [
        ("sarl", "asymmetric", "cannot use labels that are known"),
        ("c_tran", "selective", "reveals as it learns unknown ones"),
        ("c_tran", "distillation", "reveals as it learns unknown ones"),
    ],
)
def test_revealed_labels_are_refused_where_they_would_be_lost(head: str, loss: str, match: str) -> None:
    stage = {"losses": {loss: 1.0}, "known_share": 0.5}
    with pytest.raises(UsageError, match=match):
        check_stages(RunConfig.model_validate({"model": {"head": head}, "stages": {"classification": stage}}))


def test_a_second_look_needs_images_and_a_loss() -> None:
    twice: dict[str, Any] = {"model": {"head": "pooled", "second_look": 2}}
    with pytest.raises(UsageError, match="which a run on features does not see"):
        check_stages(RunConfig.model_validate({**twice, "features": {"once": True}}))
    with pytest.raises(UsageError, match=r"--set stages.classification.losses.auxiliary=1"):
        check_stages(RunConfig.model_validate(twice))


def test_two_views_of_a_batch_are_different_views_of_the_cache(manifest: Manifest) -> None:
    loss = {"losses": {"asymmetric": 1.0, "image_to_image": 0.5}, "views": 2, "augment": "flip-and-crop"}
    heard: list[Event] = []
    start(configured((0, 1), FROZEN, {"stages": {"contrastive": loss}}), manifest, Path("run"), heard.append)
    assert counts(heard)[0] == 24 * 3 + 12
    assert [event.images for event in heard if isinstance(event, StepDone)] == [7, 7, 7, 3]


def test_an_evaluation_reads_the_features_that_are_there(coco: Path) -> None:
    drawn = prepare("coco", data=coco, output=Path("prepared")).manifest
    splits = [drawn.split(name) for name in drawn.splits]
    records = [Record(split[i], split.name, tuple(split.active(i))) for split in splits for i in range(len(split))]
    Manifest.from_records(drawn.description, records).save(Path("without-boxes"))
    start(configured((1, 0), FROZEN), load_manifest(Path("without-boxes")), Path("run"))
    result = evaluate("run", bootstrap=0, batch_size=7)
    assert round(result.map_interpolated, 4) == float(numbers(Path("run"))[-1]["mAP_interpolated"])
    for path in (coco / "val2017").iterdir():  # cannot be read any more, and look unchanged
        state = path.stat()
        path.write_bytes(bytes(state.st_size))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert evaluate("run", bootstrap=0, batch_size=7).map_interpolated == result.map_interpolated
    assert evaluate("run", bootstrap=0, limit=9).subject["limit"] == 9
    with pytest.raises(DataError, match="not an image"):
        evaluate("run", bootstrap=0, img_size=64)
    clear_features(Path("cache"))
    with pytest.raises(DataError, match="not an image"):
        evaluate("run", bootstrap=0)


def test_micro_batches_of_features(manifest: Manifest) -> None:
    start(configured((1, 0), FROZEN, {"compute": {"accumulate": 3}}), manifest, Path("run"))
