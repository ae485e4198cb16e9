"""A run that was stopped and resumed is the run that was not, to the last bit."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sadcl_core.config.methods import METHODS
from sadcl_core.data.manifest import Manifest, load_manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runs.run_directory import RunDirectory, last_unfinished_run, read_status
from sadcl_core.runs.state import CARD, StateCard, read_state, read_state_card
from sadcl_core.training.listeners.events import EpochDone, Event, PrototypesBuilt, StepDone
from sadcl_core.training.resume import prepare_resume
from tests.conftest import Once, make_coco
from tests.core.model.heads.inputs import SMALL
from tests.core.training.resumable import configured, differences, go_on, numbers, start, tensors

MIXED: dict[str, Any] = {
    "stages": {
        name: {"mixup": 0.4, "cutmix": 1.0, "mix": "splice", "optimizer": "sgd"} for name in ("classification", "contrastive")
    }
}
VIEWS: dict[str, Any] = {
    "stages": {"contrastive": {"views": 2}},
    "data": {"sampler": "repeat-factor", "workers": 1, "hide_labels": 0.3},
    "optim": {"pseudo_labels": 0.51, "pseudo_from_epoch": 1},
}
OTHER_METHODS: dict[str, dict[str, Any]] = {
    "c-tran": {},  # labels that are revealed
    "ccd": {"stages": {"contrastive": {"losses": {"sample_to_sample": 0.0}}}},  # prototypes that a head reads
}


def of_method(name: str) -> dict[str, Any]:
    head = METHODS[name].head
    return {"method": name, "model": {"heads": {head: SMALL[head]}}, **OTHER_METHODS[name]}


pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(scope="module")
def whole(manifest: Manifest, once: Once) -> Path:
    """A run of two epochs in both stages that nothing disturbed."""
    return once("two-epochs", lambda folder: start(configured((2, 2)), manifest, folder / "run")) / "run"


def stop_at(count: int, kind: type = StepDone) -> Callable[[Event], None]:
    """A listener that asks for an end when it has heard of so many events of a kind."""
    heard = 0

    def listen(event: Event) -> None:
        nonlocal heard
        heard += isinstance(event, kind)
        if isinstance(event, kind) and heard == count:
            signal.raise_signal(signal.SIGINT)

    return listen


def test_stopped_at_every_event_and_resumed_is_the_same_as_not_stopped(manifest: Manifest, whole: Path) -> None:
    """After each step, epoch and set of prototypes once: between stages, within an epoch, before and after an evaluation."""

    def stop(event: Event) -> None:
        if isinstance(event, StepDone | EpochDone | PrototypesBuilt):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        start(configured((2, 2)), manifest, Path("parts"), stop)
    assert read_status(Path("parts"))["status"] == "interrupted"
    for _ in range(40):
        try:
            go_on(Path("parts"), manifest, stop)
            break
        except KeyboardInterrupt:
            continue
    assert differences(whole, Path("parts")) == []
    status = read_status(Path("parts"))
    assert status["status"] == "finished"
    assert len(status["resumed"]) >= 15


@pytest.mark.parametrize("more", [MIXED, VIEWS, *map(of_method, OTHER_METHODS)], ids=["mixed", "views, workers", *OTHER_METHODS])
def test_whatever_is_random_comes_back_as_it_was(manifest: Manifest, more: dict[str, Any]) -> None:
    made = configured((1, 1), more)
    start(made, manifest, Path("whole"))
    with pytest.raises(KeyboardInterrupt):
        start(made, manifest, Path("parts"), stop_at(6))
    go_on(Path("parts"), manifest)
    assert differences(Path("whole"), Path("parts")) == []


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_rate_drops_on_a_plateau_and_after_it_goes_on_as_it_would_have(manifest: Manifest, select: str) -> None:
    stage = {"optimizer": "sgd", "lr": 1e-30}  # nothing is learned
    optim = {"schedule": "plateau", "schedule_patience": 1, "warmup": 0.0, "nesterov": True, "select": select}
    made = configured((3, 0), {"stages": {"classification": stage}, "optim": optim})
    start(made, manifest, Path("whole"))
    rates = [float(row["lr"]) for row in numbers(Path("whole"))]
    assert rates == pytest.approx([1e-30, 1e-30, 1e-31], rel=1e-6, abs=0)
    with pytest.raises(KeyboardInterrupt):
        start(made, manifest, Path("parts"), stop_at(2, EpochDone))
    go_on(Path("parts"), manifest)
    assert differences(Path("whole"), Path("parts")) == []


def test_more_workers_and_a_moved_run_change_nothing(manifest: Manifest, whole: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(configured((2, 2)), manifest, Path("parts"), stop_at(2))
    shutil.move("parts", "elsewhere")
    go_on(Path("elsewhere"), manifest, layers=[("flag", {"data": {"workers": 1}})])
    assert differences(whole, Path("elsewhere")) == []
    assert "workers: 1  # flag" in Path("elsewhere/config.yaml").read_text()


def test_states_within_an_epoch_are_kept_when_asked_for(manifest: Manifest) -> None:
    seen: list[tuple[int, int]] = []

    def look(event: Event) -> None:
        if isinstance(event, StepDone):
            progress = read_state_card(RunDirectory(Path("run"))).progress
            seen.append((progress.epoch, progress.step))

    start(configured((2, 0), {"save_every": 2}), manifest, Path("run"), look)
    assert seen == [(1, 0), (1, 0), (1, 2), (1, 2), (2, 0), (2, 0), (2, 2), (2, 2)][: len(seen)]
    assert (1, 2) in seen


def test_a_run_goes_on_for_more_epochs_than_it_was_started_for(manifest: Manifest) -> None:
    start(configured((1, 1)), manifest, Path("run"))
    before = numbers(Path("run"))
    run = Path("run").rename("my run")  # the advice can be typed as it is
    with pytest.raises(UsageError, match=r"come to its end. To train longer, give more epochs: --resume 'my run' --epochs 1,2"):
        prepare_resume(run)
    run.rename("run")
    go_on(Path("run"), manifest, epochs=[3])
    after = numbers(Path("run"))
    assert after[:2] == before
    assert [(row["stage"], row["epoch"]) for row in after[2:]] == [("contrastive", "2"), ("contrastive", "3")]
    assert "epochs: 3" in Path("run/config.yaml").read_text()
    start(configured((1, 3)), manifest, Path("whole"))
    assert [row["lr"] for row in numbers(Path("whole"))[2:]] == [row["lr"] for row in after[2:]]  # where a whole one would be
    with pytest.raises(UsageError, match="Stage classification is over"):
        prepare_resume(Path("run"), epochs=[2, 3])


def test_the_early_stop_counts_across_interruptions(manifest: Manifest) -> None:
    made = configured((9, 0), {"optim": {"patience": 2}, "stages": {"classification": {"lr": 1e-12}}})
    start(made, manifest, Path("whole"))
    assert 3 <= len(numbers(Path("whole"))) < 9
    with pytest.raises(KeyboardInterrupt):
        start(made, manifest, Path("parts"), stop_at(len(numbers(Path("whole"))) - 1, EpochDone))
    go_on(Path("parts"), manifest)
    assert differences(Path("whole"), Path("parts")) == []


def test_a_run_that_gave_up_goes_on_with_more_patience(manifest: Manifest) -> None:
    start(configured((9, 0), {"optim": {"patience": 2}, "stages": {"classification": {"lr": 1e-12}}}), manifest, Path("run"))
    rows = len(numbers(Path("run")))
    for epochs in ([20], [None]):
        with pytest.raises(UsageError, match=r"ended early: no better mAP since epoch \d of .* --set optim.patience=4"):
            prepare_resume(Path("run"), epochs=epochs)
    go_on(Path("run"), manifest, layers=[("--set", {"optim": {"patience": 4}})])
    assert len(numbers(Path("run"))) == rows + 2


def test_a_rate_is_for_the_stages_that_are_not_over(manifest: Manifest) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(configured((1, 2)), manifest, Path("run"), stop_at(2, EpochDone))
    resumed = prepare_resume(Path("run"), lr=1e-4)
    assert [stage.lr for stage in resumed.config.stages.values()] == [1e-3, 1e-4]
    assert resumed.changes == {"stages.contrastive.lr": (1e-3, 1e-4)}


def test_epochs_that_are_done_cannot_be_taken_back(manifest: Manifest) -> None:
    start(configured((3, 0)), manifest, Path("run"))
    for epochs in ([2], [0], [0, 2]):
        with pytest.raises(UsageError, match="Stage classification has 3 epochs already"):
            prepare_resume(Path("run"), epochs=epochs)


def test_what_is_asked_for_when_going_on_is_kept_at_once(manifest: Manifest) -> None:
    start(configured((1, 0)), manifest, Path("run"))
    with pytest.raises(RuntimeError, match="killed"):
        go_on(Path("run"), manifest, killed_at_the_first_step, epochs=[3])
    go_on(Path("run"), manifest)
    assert len(numbers(Path("run"))) == 3


def killed_at_the_first_step(event: Event) -> None:
    if isinstance(event, StepDone):
        raise RuntimeError("killed")


def test_tables_of_a_run_killed_in_its_first_epoch_have_no_line_twice(manifest: Manifest) -> None:
    made = configured((2, 0), {"data": {"batch_size": 2}})
    start(made, manifest, Path("whole"))
    heard = 0

    def kill(event: Event) -> None:
        nonlocal heard
        heard += isinstance(event, StepDone)
        if heard == 11:
            raise RuntimeError("killed")  # nothing is saved then

    with pytest.raises(RuntimeError, match="killed"):
        start(made, manifest, Path("parts"), kill)
    assert (Path("parts") / "metrics.jsonl").read_text()
    go_on(Path("parts"), manifest)
    assert differences(Path("whole"), Path("parts")) == []


def test_the_scaler_of_fp16_comes_back_as_it_was(manifest: Manifest) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(torch.ones(1))
    start(configured((1, 0)), manifest, Path("run"))
    card, _ = read_state(RunDirectory(Path("run")))
    stored = StateCard.model_validate_json(card.model_copy(update={"scaler": scaler.state_dict()}).model_dump_json()).scaler
    assert stored == scaler.state_dict()
    assert {key: type(value) for key, value in stored.items()} == {key: type(v) for key, v in scaler.state_dict().items()}


def test_what_was_settled_at_the_start_cannot_be_changed(manifest: Manifest) -> None:
    start(configured((1, 0)), manifest, Path("run"))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"data": {"batch_size": 8}}, "data.batch_size was 7 when the run was started and cannot be 8"),
        ({"model": {"backbone": "resnet18"}}, "model.backbone was test_resnet"),
        ({"optim": {"ema_decay": 0.5}}, "optim.ema_decay"),
    ]
    for layer, words in changes:
        with pytest.raises(UsageError, match=words):
            prepare_resume(Path("run"), [("flag", layer)], epochs=[2])
    resumed = prepare_resume(Path("run"), [("flag", {"save_every": 3})], epochs=[2])
    assert (resumed.progress.stage, resumed.progress.epoch, resumed.progress.step) == ("classification", 2, 0)
    assert resumed.changes == {"save_every": (0, 3), "stages.classification.epochs": (1, 2)}


def test_other_data_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(configured((2, 0)), manifest, Path("run"), stop_at(2))
    root = make_coco(tmp_path / "other")
    (root / "train2017" / "003.png").unlink()
    other = prepare("coco", data=root, output=tmp_path / "b", skip_broken=True).manifest
    with pytest.raises(DataError, match="have other images, splits or labels"):
        go_on(Path("run"), other)
    same = prepare("coco", data=make_coco(tmp_path / "moved"), output=tmp_path / "c").manifest
    go_on(Path("run"), same)
    assert load_manifest(Path(read_status(Path("run"))["manifest"])).description.root == tmp_path / "moved"


@pytest.fixture
def stopped(manifest: Manifest) -> Path:
    with pytest.raises(KeyboardInterrupt):
        start(configured((2, 1)), manifest, Path("run"), stop_at(6))
    return Path("run")


def test_a_missing_state_is_an_error(stopped: Path, manifest: Manifest) -> None:
    shutil.rmtree(stopped / "state")
    with pytest.raises(DataError, match=r"run has no state to go on from"):
        go_on(stopped, manifest)
    with pytest.raises(DataError, match="is not a run"):
        prepare_resume(Path("nowhere"))


def test_a_damaged_state_is_an_error(stopped: Path, manifest: Manifest) -> None:
    path = stopped / "state" / "last.safetensors"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1  # one bit of one weight
    for content in (whole[: len(whole) // 2], bytes(flipped), b"", b"\x80" * 100, whole[:200], pickle.dumps({"a": 1})):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is damaged"):
            go_on(stopped, manifest)
    assert numbers(stopped)  # nothing was taken away
    path.write_bytes(whole)
    go_on(stopped, manifest)


def test_a_state_of_another_kind_is_an_error(stopped: Path, manifest: Manifest) -> None:
    path = stopped / "state" / "last.safetensors"
    card, stored = read_state(RunDirectory(stopped))
    path.unlink()
    shutil.copy(stopped / "weights" / "last.safetensors", path)
    with pytest.raises(DataError, match="is damaged, or no state of a run"):
        go_on(stopped, manifest)
    header = json.loads(card.model_dump_json())
    for values, words in [
        ({**header, "schema_version": 1}, r"was written by another version \(schema version 1, this program reads 2\)"),
        ({**header, "command": "rm"}, "is damaged"),
        ({**header, "checksums": {}}, "is not what was written"),
        ([], "is damaged"),
    ]:
        path.unlink()  # the tensors that were read lie in it
        safetensors.torch.save_file(stored, path, metadata={CARD: json.dumps(values)})
        with pytest.raises(DataError, match=words):
            go_on(stopped, manifest)


def test_best_weights_of_the_stage_that_are_gone_are_an_error(manifest: Manifest) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(configured((1, 1)), manifest, Path("run"), stop_at(1, EpochDone))
    for path in Path("run").glob("state/best-*"):
        path.unlink()
    with pytest.raises(DataError, match="which the run needs to go on, is missing or damaged"):
        go_on(Path("run"), manifest)


def test_the_state_holds_no_more_than_it_needs(stopped: Path, manifest: Manifest) -> None:
    assert sorted(path.name for path in stopped.glob("state/*")) == ["best-classification-1.safetensors", "last.safetensors"]
    go_on(stopped, manifest)
    assert sorted(path.name for path in stopped.glob("state/*")) == ["best-contrastive-1.safetensors", "last.safetensors"]
    assert {name.split(":")[1].split(".")[0] for name in tensors(stopped) if name.startswith("last.safetensors:model")} == {
        "model"
    }


def test_the_last_run_that_did_not_end_is_found(manifest: Manifest) -> None:
    with pytest.raises(DataError, match="no run under runs/ with a state"):
        last_unfinished_run()
    start(configured((1, 0)), manifest, Path("runs/done"))
    assert last_unfinished_run().path == Path("runs/done")
    for name in ("old", "new"):
        with pytest.raises(KeyboardInterrupt):
            start(configured((1, 0)), manifest, Path(f"runs/{name}"), stop_at(1))
    path = Path("runs/old/run.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "updated": "2020-01-01T00:00:00+00:00"}))
    start(configured((1, 0)), manifest, Path("runs/later"))
    assert last_unfinished_run().path == Path("runs/new")
    Path("runs/damaged").mkdir()
    Path("runs/damaged/run.json").write_text("{")
    assert last_unfinished_run().path == Path("runs/new")


def test_what_a_killed_process_left_is_cleared_away(stopped: Path, manifest: Manifest) -> None:
    left = [stopped / "state" / ".last.safetensors.1.2.tmp", stopped / "weights" / ".best.safetensors.1.2.tmp"]
    for path in left:
        path.write_bytes(b"half")
    with (stopped / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "classif')
    go_on(stopped, manifest)
    assert not any(path.exists() for path in left)
    assert all(json.loads(line) for line in (stopped / "metrics.jsonl").read_text().splitlines())
