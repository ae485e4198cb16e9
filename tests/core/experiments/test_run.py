"""What is shared, kept and refused when methods are compared, on a small network and real scenes."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sadcl_core.config.layers import Layer, parse_assignment
from sadcl_core.config.methods import ABLATION
from sadcl_core.config.presets import configure
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.published import CLASSES, published_figures
from sadcl_core.experiments.plan import Plan, plan
from sadcl_core.experiments.run import run_plan
from sadcl_core.experiments.tables import TITLES, Comparison, ScoredRun, save_comparison
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.runs.lock import process_start
from sadcl_core.runs.run_directory import RunDirectory, read_status
from sadcl_core.training.listeners.events import ComparedRunStarted, Event, FeaturesComputed, StageStarted, StepDone
from sadcl_core.training.recipe import TrainingRecipe
from sadcl_core.training.run import start_run
from sadcl_core.training.setup import data_facts

SETTINGS: Layer = {
    "data": {"img_size": 32, "batch_size": 8, "workers": 0},
    "model": {
        "backbone": "test_resnet",
        "stride": 16,
        "pretrained": False,
        "projection_width": 8,
        "heads": {"sarl": {"width": 16, "feedforward": 16}, "mulcon": {"width": 16, "token_width": 16}},
    },
    "stages": {"classification": {"epochs": 1, "lr": 1e-3}, "contrastive": {"epochs": 1, "lr": 1e-3}},
    "device": "cpu",
}
LAYERS: list[tuple[str, Layer]] = [("test", SETTINGS)]


@pytest.fixture
def manifest(coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.chdir(tmp_path)
    return prepare("coco", data=coco).manifest


class Heard:
    """Which runs were trained, and in which stages."""

    def __init__(self) -> None:
        self.stages: dict[str, list[str]] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, ComparedRunStarted):
            shared = ": the first stage, shared" if event.first_stage else ""
            self.stages[f"{event.number}/{event.runs} {event.name}{shared}"] = []
        elif isinstance(event, StageStarted):
            list(self.stages.values())[-1].append(event.stage)


def run(planned: Plan, manifest: Manifest, folder: str = "c") -> tuple[Comparison, dict[str, list[str]]]:
    heard = Heard()
    return run_plan(planned, manifest, Path(folder), listen=heard), heard.stages


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path / "weights" / "last.safetensors").classifier.state_dict()


def test_the_ablation_shares_one_first_stage_a_seed(manifest: Manifest) -> None:
    planned = plan(LAYERS, manifest, methods=ABLATION, seeds=(1, 2))
    assert sorted(name[-6:] for name in planned.first_stages) == ["-seed1", "-seed2"]
    sharing = {run.method for run in planned.runs if run.first_stage}
    assert sharing == {"sarl", "sarl-s2s", "sarl-p2s", "sadcl"}
    for run_ in planned.runs:  # the same budget: every method has both stages, each with a loss
        assert all(stage.weights for stage in run_.configured.config.stages.values()), run_.name
        assert run_.first_stage.endswith(f"-seed{run_.seed}") or not run_.first_stage
    assert all(first.config.stages["contrastive"].epochs == 0 for first in planned.first_stages.values())


def test_what_differs_in_the_first_stage_is_not_shared(manifest: Manifest) -> None:
    planned = plan(LAYERS, manifest, methods=("sarl", "query2label-self-attention", "mulcon", "baseline"), seeds=(1,))
    assert not planned.first_stages
    both = plan(LAYERS, manifest, methods=("baseline", "baseline-contrastive", "mulcon", "mulcon-classification"), seeds=(1,))
    shared = {run_.method: run_.first_stage for run_ in both.runs}
    assert shared["baseline"] == shared["baseline-contrastive"] != shared["mulcon"] == shared["mulcon-classification"]
    one_stage = [*LAYERS, ("--set", {"stages": {"contrastive": {"epochs": 0}}})]
    with pytest.raises(UsageError, match="sarl and sadcl are the same with one stage"):
        plan(one_stage, manifest, methods=("sarl", "baseline", "sadcl"), seeds=(1,))


def test_a_linear_layer_is_no_epoch_and_a_last_epoch_of_fewer_images_stands_beside_no_map(manifest: Manifest) -> None:
    model = {"freeze_stride": 64, "freeze_batchnorm": True}
    fitted = {"optim": {"solve_linear": True}, "features": {"once": True, "cache": "cache"}, "model": model}
    layers = [*LAYERS, ("--set", {**fitted, "data": {"limit": 24}})]
    comparison, _ = run(plan(layers, manifest, methods=("baseline",), seeds=(1,)), manifest)
    (scored,) = comparison.runs
    assert scored.epochs == sum(comparison.epochs.values())
    assert "trained:" not in comparison.markdown()
    assert scored.scores["mAP_interpolated"] is not None
    assert scored.scores["mAP_interpolated_last_epoch"] is None


def test_methods_share_the_features_of_a_frozen_backbone(manifest: Manifest) -> None:
    events: list[Event] = []
    frozen = [*LAYERS, ("--set", {"features": {"once": True, "cache": "cache"}, "model": {"freeze_stride": 64}})]
    methods = ("baseline", "sarl", "sadcl", "baseline-contrastive")
    run_plan(plan(frozen, manifest, methods=methods, seeds=(1,)), manifest, Path("c"), listen=events.append)
    computed = [event.rows for event in events if isinstance(event, FeaturesComputed)]
    assert computed == [24 * 2 + 12] + [0] * (len(computed) - 1)
    assert len(computed) == 6  # four runs and two first stages
    elsewhere = [*LAYERS, ("--set", {"features": {"once": True, "cache": "elsewhere"}, "model": {"freeze_stride": 64}})]
    again: list[Event] = []
    run_plan(plan(elsewhere, manifest, methods=methods, seeds=(1,)), manifest, Path("c"), listen=again.append)
    assert not [event for event in again if isinstance(event, FeaturesComputed)]  # finished, wherever features are now


@pytest.mark.parametrize("methods", [("sarl", "sadcl"), ("sadcl", "sarl")])
def test_a_run_on_a_shared_first_stage_is_what_train_would_have_made(manifest: Manifest, methods: tuple[str, ...]) -> None:
    run(plan(LAYERS, manifest, methods=methods, seeds=(3,)), manifest)
    configured = configure(
        [*LAYERS, ("test", {"method": "sadcl", "seed": 3})],
        dataset="coco",
        split_sizes=manifest.split_sizes,
        facts=lambda: data_facts(manifest, LAYERS),
    )
    alone = RunDirectory(Path("alone"))
    start_run(configured.config, configured.sources, manifest, alone, listen=lambda event: None)
    shared, own = weights(Path("c/sadcl-seed3")), weights(Path("alone"))
    assert all(torch.equal(shared[name], own[name]) for name in own)

    def rows(path: Path) -> list[dict[str, str]]:
        return [{k: v for k, v in row.items() if "second" not in k} for row in RunDirectory(path).read_results()]

    assert rows(Path("c/sadcl-seed3")) == rows(Path("alone"))
    best, expected = (read_status(path)["best"] for path in (Path("c/sadcl-seed3"), Path("alone")))
    assert best == expected
    assert Path("c/sadcl-seed3/plots/curves.png").is_file()  # as of every run


def test_finished_runs_are_kept_and_more_are_added(manifest: Manifest) -> None:
    first, trained = run(plan(LAYERS, manifest, methods=("baseline",), seeds=(1,)), manifest)
    assert list(trained) == ["1/1 baseline-seed1"]
    again, trained = run(plan(LAYERS, manifest, methods=("baseline",), seeds=(1,)), manifest)
    assert trained == {}
    assert again == first
    more, trained = run(plan(LAYERS, manifest, methods=("baseline", "sarl"), seeds=(1,)), manifest)
    assert list(trained) == ["2/2 sarl-seed1"]
    assert more.runs[0] == first.runs[0]
    assert first.runs[0].seconds > 0


def test_another_order_or_a_lost_first_stage_trains_nothing_again(manifest: Manifest) -> None:
    run(plan(LAYERS, manifest, methods=("sarl", "sadcl"), seeds=(1,)), manifest)
    other, trained = run(plan(LAYERS, manifest, methods=("sadcl", "sarl"), seeds=(1,)), manifest)
    assert trained == {}
    assert other.methods == ("sadcl", "sarl")
    for path in Path("c").glob("first-stage-*"):
        shutil.rmtree(path)
    assert run(plan(LAYERS, manifest, methods=("sarl", "sadcl"), seeds=(1,)), manifest)[1] == {}


def test_a_run_whose_files_were_lost_is_trained_again(manifest: Manifest) -> None:
    planned = plan(LAYERS, manifest, methods=("sarl", "sadcl"), seeds=(1,))
    first, _ = run(planned, manifest)
    Path("c/sadcl-seed1/weights/best.safetensors").unlink()
    for path in Path("c").glob("first-stage-*"):
        (path / "weights" / "best.safetensors").unlink()
    again, trained = run(planned, manifest)
    assert list(trained) == ["2/2 sadcl-seed1: the first stage, shared", "2/2 sadcl-seed1"]
    assert [run_.scores for run_ in again.runs] == [run_.scores for run_ in first.runs]


@pytest.mark.parametrize(
    ("methods", "diverging", "lost"),
    [
        (("query2label-self-attention", "baseline"), "baseline", ["baseline"]),
        (("baseline", "query2label-self-attention"), "baseline", ["baseline"]),
        (("sarl", "sadcl", "query2label-self-attention"), "sarl", ["sarl", "sadcl"]),  # the first stage that two share
    ],
)
def test_a_divergence_is_no_number_and_the_others_go_on(
    manifest: Manifest, methods: tuple[str, ...], diverging: str, lost: list[str]
) -> None:
    tried: list[str] = []

    class Diverging(TrainingRecipe):
        def evaluate(self, classifier: Classifier) -> dict[str, float]:
            tried.append(self.run_directory.path.name)
            if self.config.method == diverging:  # the model gives NaN for held-out images
                with torch.no_grad():
                    next(classifier.parameters()).fill_(math.nan)
            return super().evaluate(classifier)

    planned = plan(LAYERS, manifest, methods=methods, seeds=(1,))
    result = run_plan(planned, manifest, Path("c"), recipe_class=Diverging)
    assert result.diverged == [f"{method} seed 1" for method in lost]
    assert result.rows()[1 + methods.index(lost[0])][1:3] == ["-", "-"]
    assert result.rows()[-1][-2:] == ["-", "0/0"]  # one of the two that are compared has no number
    save_comparison(result)
    stored = json.loads(Path("c/comparison.json").read_text())["methods"]
    assert {entry["method"] for entry in stored if entry["OF1"]["mean"] is None} == set(lost)
    count = len(tried)
    assert run_plan(planned, manifest, Path("c"), recipe_class=Diverging) == result
    assert len(tried) == count  # it would diverge again


def test_times_are_told_by_how_a_run_was_made(manifest: Manifest) -> None:
    alone, _ = run(plan(LAYERS, manifest, methods=("sadcl",), seeds=(1,)), manifest)
    later, _ = run(plan(LAYERS, manifest, methods=("sadcl", "sarl"), seeds=(1,)), manifest)
    assert later.runs[0] == alone.runs[0]
    assert later.runs[0].first_stage == ""
    assert later.runs[1].first_stage.startswith("first-stage-")
    assert later.runs[1].first_stage_seconds > 0
    assert run(plan(LAYERS, manifest, methods=("sarl",), seeds=(1,)), manifest)[0].runs[0] == later.runs[1]


def test_a_run_that_ended_before_it_began_is_trained_again(manifest: Manifest) -> None:
    planned = plan(LAYERS, manifest, methods=("baseline",), seeds=(1,))
    directory = RunDirectory(Path("c/baseline-seed1"))
    directory.create(exist_ok=False)
    directory.write_config(planned.runs[0].configured.config.model_dump(), {})
    assert list(run(planned, manifest)[1]) == ["1/1 baseline-seed1"]


def test_settings_tune_a_method_and_do_not_change_what_it_is(manifest: Manifest) -> None:
    tuned = parse_assignment("stages.contrastive.losses.sample_to_sample=0.3")
    bank = parse_assignment("loss.sample_to_sample.bank_slots=32")
    methods = ("baseline", "sarl", "sadcl", "sarl-p2s", "mulcon")
    planned = plan([*LAYERS, ("--set", tuned), ("--set", bank)], manifest, methods=methods, seeds=(1,))
    config = {run_.method: run_.configured.config for run_ in planned.runs}
    weights = {method: config[method].stages["contrastive"].losses["sample_to_sample"] for method in methods}
    assert weights == {"baseline": 0, "sarl": 0, "sadcl": 0.3, "sarl-p2s": 0, "mulcon": 0.3}
    slots = {method: config[method].loss.sample_to_sample.bank_slots for method in methods}
    assert slots == {"baseline": 0, "sarl": 0, "sadcl": 32, "sarl-p2s": 0, "mulcon": 0}
    for key in ("loss.sample_to_sample.bank_slots=0", "stages.contrastive.losses.prototype_to_sample=0"):
        with pytest.raises(UsageError, match=r"is what sadcl is, so it cannot be 0"):
            plan([*LAYERS, ("--set", parse_assignment(key))], manifest, methods=("sarl", "sadcl"), seeds=(1,))
    for key in ("model.head=pooled", "model.heads.sarl.encoder_layers=3", "stages.contrastive.views=3"):
        with pytest.raises(UsageError, match=r"is what sarl is, so it cannot be .* in a comparison"):
            plan([*LAYERS, ("--set", parse_assignment(key))], manifest, methods=("sarl",), seeds=(1,))


def test_a_mistake_for_the_last_method_is_said_before_the_first_is_trained(manifest: Manifest) -> None:
    wrong = [*LAYERS, ("--set", parse_assignment("model.heads.mulcon.widht=8"))]
    with pytest.raises(UsageError, match="Did you mean 'width'"):
        plan(wrong, manifest, methods=("sarl", "mulcon"), seeds=(1,))


@pytest.mark.parametrize(("name", "content"), [("run.json", "{"), ("config.yaml", "nothing: 3\n"), ("config.yaml", "- a\n")])
def test_damaged_files_are_one_sentence(manifest: Manifest, name: str, content: str) -> None:
    planned = plan(LAYERS, manifest, methods=("baseline",), seeds=(1,))
    run(planned, manifest)
    (Path("c/baseline-seed1") / name).write_text(content)
    with pytest.raises(UsageError, match=r"baseline-seed1 holds a run whose files are damaged\. Choose another place"):
        run(planned, manifest)


def test_numbers_of_an_earlier_version_are_measured_again(manifest: Manifest) -> None:
    planned = plan(LAYERS, manifest, methods=("baseline",), seeds=(1,))
    first, _ = run(planned, manifest)
    RunDirectory(Path("c/baseline-seed1")).write_status(scores={"mAP_interpolated": 99.0})
    assert run(planned, manifest)[0] == first


def test_a_run_that_another_process_trains_is_left_alone(manifest: Manifest) -> None:
    planned = plan(LAYERS, manifest, methods=("baseline",), seeds=(1,))
    run(planned, manifest)
    directory = RunDirectory(Path("c/baseline-seed1"))
    other = {"host": platform.node(), "pid": os.getppid(), "since": process_start(os.getppid())}
    directory.write_status(status="running", process=other)
    with pytest.raises(UsageError, match=f"is being trained by process {os.getppid()}"):
        run(planned, manifest)
    with subprocess.Popen(["true"]) as ended:
        pass
    for gone in ({**other, "pid": ended.pid}, {**other, "since": "0"}, {**other, "host": "elsewhere"}):
        directory.write_status(status="running", process=gone)
        assert list(run(planned, manifest)[1]) == ["1/1 baseline-seed1"]  # it was killed: trained to its end


def test_other_weights_under_the_same_name_are_not_the_same_run(manifest: Manifest) -> None:
    import timm

    def weights_file(seed: int) -> None:
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_resnet").state_dict(), "w.pth")

    weights_file(1)
    planned = plan([*LAYERS, ("--set", {"model": {"pretrained": "w.pth"}})], manifest, methods=("baseline",), seeds=(1,))
    run(planned, manifest)
    assert run(planned, manifest)[1] == {}
    weights_file(2)
    with pytest.raises(UsageError, match="other settings, data or weights"):
        run(planned, manifest)
    Path("w.pth").unlink()
    with pytest.raises(DataError, match=r"model\.pretrained=w\.pth cannot be read"):
        run(planned, manifest)


def test_an_interrupted_run_goes_on_and_the_others_are_kept(manifest: Manifest) -> None:
    planned = plan(LAYERS, manifest, methods=("sarl", "sadcl"), seeds=(1,))
    heard = Heard()

    def interrupt(event: Event) -> None:
        heard(event)
        if isinstance(event, StepDone) and list(heard.stages)[-1] == "2/2 sadcl-seed1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(planned, manifest, Path("c"), listen=interrupt)
    assert read_status(Path("c/sadcl-seed1"))["status"] == "interrupted"
    result, stages = run(planned, manifest)
    assert list(stages.values()) == [["contrastive"]]  # neither the first stage nor the finished run again
    assert len(read_status(Path("c/sadcl-seed1"))["resumed"]) == 1
    assert result.methods == ("sarl", "sadcl")


def test_a_run_of_other_settings_is_not_taken_for_this_one(manifest: Manifest) -> None:
    run(plan(LAYERS, manifest, methods=("baseline",), seeds=(1,)), manifest)
    other = plan([*LAYERS, ("--set", {"optim": {"ema_decay": 0.5}})], manifest, methods=("baseline",), seeds=(1,))
    with pytest.raises(UsageError, match=r"baseline-seed1 was trained with other settings.* another place .* with -o"):
        run(other, manifest)
    Path("full/baseline-seed1").mkdir(parents=True)
    Path("full/baseline-seed1/letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        run(plan(LAYERS, manifest, methods=("baseline",), seeds=(1,)), manifest, "full")


def made_up(folder: Path = Path()) -> Comparison:
    numbers = {"baseline": (50.0, 52.0, 54.0), "sadcl": (51.0, 52.5, 57.0)}
    shared = {"baseline": ("", 0.0), "sadcl": ("first-stage", 120.0)}
    runs = [
        ScoredRun(method, seed, dict.fromkeys(TITLES, value), 3, 60.0, *shared[method])
        for method, values in numbers.items()
        for seed, value in zip((1, 2, 3), values, strict=True)
    ]
    return Comparison("mine", "small", "resnet18", {"classification": 3}, tuple(runs), {"sadcl": "0"}, folder)


def test_means_spreads_and_paired_differences() -> None:
    comparison = made_up()
    assert comparison.seconds == 480
    assert comparison.spread("baseline").mean == 52
    assert comparison.spread("baseline").deviation == 2
    difference = comparison.difference("sadcl")
    assert difference.mean == 1.5
    assert difference.deviation == pytest.approx(np.std([1, 0.5, 3], ddof=1))
    assert comparison.higher("sadcl") == 3
    header, first, second = comparison.rows(("OF1",))
    assert header == ["method", "mAP", "OF1", "minus baseline", "higher"]
    assert first == ["baseline", "52.00 ± 2.00", "52.00", "", ""]
    assert second == ["sadcl", "53.50 ± 3.12", "53.50", "+1.50 ± 1.32", "3/3"]


def test_files_of_a_comparison(tmp_path: Path) -> None:
    comparison = made_up(tmp_path)
    save_comparison(comparison)
    document = json.loads((tmp_path / "comparison.json").read_text())
    assert document["compared_with"] == "baseline"
    assert document["methods"][1]["difference"]["mean"] == 1.5
    with (tmp_path / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["seed"], float(row["OF1"])) for row in rows][-1] == ("sadcl", "3", 57.0)
    text = (tmp_path / "comparison.md").read_text()
    assert text.splitlines()[2].startswith("| baseline | 52.00 ± 2.00 |")
    assert "8 min" in text


def test_what_was_published_stands_in_a_column_of_its_own(tmp_path: Path) -> None:
    figure = published_figures("sadcl", CLASSES["nuswide"])[1]
    assert figure == "65.9 (interpolated)"
    comparison = replace(made_up(tmp_path), published={"sadcl": figure})
    save_comparison(comparison)
    header, _, first, second, *notes = (tmp_path / "comparison.md").read_text().splitlines()
    assert [line.split(" | ")[-1] for line in (header, first, second)] == ["published |", "- |", f"{figure} |"]
    assert "Published figures are of the whole data set" in "".join(notes)
    assert [row["published"] for row in comparison.as_json()["methods"]] == ["", figure]
    assert "published" not in made_up().markdown().lower()


def test_one_seed_has_no_spread() -> None:
    whole = made_up()
    one = replace(whole, runs=(whole.runs[0], whole.runs[3]))
    assert one.difference("sadcl").deviation is None
    assert one.rows()[2][1] == "51.00"
    assert math.isclose(one.as_json()["methods"][1]["difference"]["mean"], 1.0)
