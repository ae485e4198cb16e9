"""What happens in a run: which weights a stage starts from, what is kept, what the settings of a step change and what not."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sadcl_core.config.schema import ModelSection, RunConfig
from sadcl_core.data.dataset import Batch
from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.rows import Record
from sadcl_core.errors import DivergedError, UsageError
from sadcl_core.evaluation.calibrate import calibrate
from sadcl_core.evaluation.evaluate import evaluate
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.known_labels import reveal
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.runs.run_directory import RunDirectory, read_status
from sadcl_core.runs.state import BestEpoch, read_state_card
from sadcl_core.training.batches import split_batch
from sadcl_core.training.listeners.events import (
    EpochDone,
    Event,
    MemoryRanOut,
    PassProgress,
    ScoresCalibrated,
    StageStarted,
    StepDone,
    StoppedEarly,
)
from sadcl_core.training.parallel import check_compute, make_ready
from sadcl_core.training.recipe import TrainingRecipe
from sadcl_core.training.setup import check_labels
from tests.core.training.resumable import LOSSES, configured, go_on, numbers, start, tensors

pytestmark = pytest.mark.usefixtures("here")
RUN = Path("run")
STEADY: dict[str, Any] = {
    "model": {"freeze_batchnorm": True, "heads": {"sarl": {"dropout": 0.0}}},
    "stages": {"classification": {"augment": "none", "optimizer": "sgd", "lr": 0.05}},  # AdamW makes much of a small rounding
}
Weights = dict[str, Tensor]


def weights_of(name: str) -> Weights:
    return load_model(RUN / "weights" / f"{name}.safetensors").classifier.state_dict()


def same(a: Weights, b: Weights, *, but: tuple[str, ...] = ()) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a if key not in but)


class Waits(TorchDispatchMode):
    """Count what a GPU would be waited for: values and sizes that are asked of it, beside the values of the losses."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount", "equal"}
        by_mask = func.__name__.startswith("index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in (args[1] if isinstance(args[1], list) else ())
        )
        self.count += by_mask or func.__name__.partition(".")[0] in asked
        return func(*args, **(kwargs or {}))


def scripted(*maps: float) -> type[TrainingRecipe]:
    """A recipe whose epochs reach these mAPs, and that notes the weights each stage starts from."""
    left = iter(maps)

    class Scripted(TrainingRecipe):
        starts: list[Weights] = []  # noqa: RUF012 (of one test)

        def evaluate(self, classifier: Classifier) -> dict[str, float]:
            value = next(left)
            return {"mAP_interpolated": value, "mAP_non_interpolated": value}

        def start_stage(self, *arguments: Any, **options: Any) -> None:
            self.starts.append({key: value.clone() for key, value in self.classifier.state_dict().items()})
            super().start_stage(*arguments, **options)

    return Scripted


# ------------------------------------------------------------------------------------------------------------ between the stages


def test_a_step_waits_for_a_gpu_only_where_the_labels_decide_a_size(manifest: Manifest) -> None:
    counts: list[int] = []

    class Counted(TrainingRecipe):
        def try_step(self, batch: Batch, step: int) -> dict[str, float]:
            with Waits() as waits:
                losses = super().try_step(batch, step)
            counts.append(waits.count)
            return losses

    start(configured((1, 1)), manifest, RUN, recipe_class=Counted)
    assert counts == [0] * 4 + [5] * 4  # active labels, filled slots, classes present, confident labels, those that are kept


def test_events_tell_the_whole_story(manifest: Manifest) -> None:
    heard: list[Event] = []
    start(configured((1, 1)), manifest, RUN, heard.append)
    steps = ["StepDone"] * 4
    passes = [event for event in heard if isinstance(event, PassProgress)]
    assert all(0 <= event.done <= event.total for event in passes)
    assert len({event.what for event in passes if event.done == event.total}) == 2, "scores of held-out images, and prototypes"
    assert [type(event).__name__ for event in heard if event not in passes] == [
        *("WeightsChosen", "RunStarted", "StageStarted", *steps, "EpochDone"),
        *("PrototypesBuilt", "StageStarted", *steps, "EpochDone"),
    ]
    started = [event for event in heard if isinstance(event, StageStarted)]
    assert [(event.number, event.stages, event.steps) for event in started] == [(1, 2, 4), (2, 2, 4)]
    assert set(started[1].losses) == set(LOSSES)
    assert sum(event.images for event in heard if isinstance(event, StepDone)) == 2 * 24


def test_the_next_stage_starts_from_the_best_epoch(manifest: Manifest) -> None:
    seen: dict[str, Weights] = {}

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone) and event.row["epoch"] == 1:
            seen.setdefault("first epoch", weights_of("last"))

    recipe = scripted(50.0, 40.0, 30.0)
    start(configured((2, 1)), manifest, RUN, listen, recipe)
    assert same(recipe.starts[1], seen["first epoch"])  # type: ignore[attr-defined]
    best = weights_of("best")  # still that epoch, with its prototypes
    assert same(best, seen["first epoch"], but=("prototypes",))
    assert best["prototypes"].any()
    card = load_model(RUN / "weights/best.safetensors").card
    assert (card.trained["stage"], card.trained["mAP_interpolated"]) == ("classification", 50.0)
    assert not same(weights_of("last"), best)


def test_a_stage_that_gets_no_better_ends_early(manifest: Manifest) -> None:
    heard: list[Event] = []
    start(configured((9, 0), {"optim": {"patience": 2}}), manifest, RUN, heard.append, scripted(50.0, 50.0, 49.0))
    assert [event for event in heard if isinstance(event, StoppedEarly)] == [StoppedEarly("classification", 1)]
    assert len(numbers(RUN)) == 3


def test_the_bank_starts_from_prototypes_and_remembers_every_step(manifest: Manifest) -> None:
    banks: list[Tensor] = []
    prototypes: list[Tensor] = []

    class Watched(TrainingRecipe):
        def start_stage(self, *arguments: Any, **options: Any) -> None:
            super().start_stage(*arguments, **options)
            if self.bank is not None:
                prototypes.append(self.classifier.prototypes.detach().clone())
                banks.append(self.bank.features.clone())

        def try_step(self, batch: Batch, step: int) -> dict[str, float]:
            losses = super().try_step(batch, step)
            if self.bank is not None:
                banks.append(self.bank.features.clone())
            return losses

    start(configured((1, 1), {"loss": {"sample_to_sample": {"bank_min_score": 0.0}}}), manifest, RUN, recipe_class=Watched)
    assert len(prototypes) == 1
    assert torch.equal(banks[0][0], prototypes[0])
    assert not banks[0][1:].any()
    assert len(banks) == 1 + 4
    assert not any(torch.equal(one, other) for one, other in pairwise(banks))


def test_frozen_parts_do_not_move_in_training(manifest: Manifest) -> None:
    seen: list[Weights] = []

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone):
            seen.append(weights_of("last"))

    start(configured((2, 0)), manifest, RUN, listen)
    moved = {key.split(".")[0] for key in seen[0] if not torch.equal(seen[0][key], seen[1][key])}
    assert moved == {"backbone", "head"}  # projection and prototypes belong to the contrastive stage


# ------------------------------------------------------------------------------------------------------------ signals and faults


def test_a_second_ctrl_c_while_files_are_written_waits_for_them(manifest: Manifest) -> None:
    class Impatient(TrainingRecipe):
        def save_model(self, classifier: Classifier, epoch: BestEpoch, *, best: bool) -> None:
            signal.raise_signal(signal.SIGINT)
            super().save_model(classifier, epoch, best=best)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        start(configured((2, 0)), manifest, RUN, recipe_class=Impatient)
    assert weights_of("last")
    assert weights_of("best")
    assert read_status(RUN)["status"] == "interrupted"
    assert read_state_card(RunDirectory(RUN)).progress.epoch == 2


def test_a_second_ctrl_c_within_a_step_does_not_wait(manifest: Manifest) -> None:
    def listen(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        start(configured((1, 0)), manifest, RUN, listen)
    assert read_state_card(RunDirectory(RUN)).progress.step == 0  # the state of the start
    assert read_status(RUN)["status"] == "interrupted"


def spoiling(spoil: Callable[[TrainingRecipe, int], None]) -> type[TrainingRecipe]:
    """A recipe whose weights are changed behind its steps."""

    class Spoiling(TrainingRecipe):
        def update_weights(self, step: int) -> None:
            super().update_weights(step)
            spoil(self, step)

    return Spoiling


def test_weights_that_are_not_finite_are_not_saved(manifest: Manifest) -> None:
    def spoil(recipe: TrainingRecipe, step: int) -> None:
        if step == 2:
            next(recipe.classifier.head.parameters()).data.fill_(float("nan"))

    with pytest.raises(DivergedError, match=r"not (a finite number|finite after step)"):
        start(configured((1, 0), {"save_every": 1}), manifest, RUN, recipe_class=spoiling(spoil))
    assert all(bool(tensor.isfinite().all()) for tensor in tensors(RUN).values())


def test_weights_broken_by_the_last_step_of_an_epoch_are_in_no_file(manifest: Manifest) -> None:
    def spoil(recipe: TrainingRecipe, step: int) -> None:
        if step == recipe.steps:
            for network in (recipe.classifier, recipe.ema.module):
                next(network.head.parameters()).data.fill_(float("nan"))

    with pytest.raises(DivergedError, match="not finite after step 4 of epoch 1"):
        start(configured((1, 0)), manifest, RUN, recipe_class=spoiling(spoil))
    assert read_status(RUN)["status"] == "diverged"
    assert all(bool(tensor.isfinite().all()) for tensor in tensors(RUN).values() if tensor.is_floating_point())


def test_nan_for_held_out_images_is_a_diverged_run(manifest: Manifest) -> None:
    def spoil(recipe: TrainingRecipe, step: int) -> None:
        if step == recipe.steps:
            for parameter in recipe.ema.module.head.parameters():
                parameter.data.fill_(3e38)  # finite, and more than a product may be

    with pytest.raises(DivergedError, match=r"gives NaN for held-out images\. Lower the learning rate"):
        start(configured((1, 0)), manifest, RUN, recipe_class=spoiling(spoil))
    assert read_status(RUN)["status"] == "diverged"


def failing(*errors: BaseException) -> type[TrainingRecipe]:
    """A recipe whose first steps end with these errors."""
    left = list(errors)

    class Failing(TrainingRecipe):
        def try_step(self, batch: Batch, step: int) -> dict[str, float]:
            if left:
                raise left.pop(0)
            return super().try_step(batch, step)

    return Failing


def test_a_step_is_taken_again_with_smaller_micro_batches(manifest: Manifest, steady: Path) -> None:
    heard: list[Event] = []
    recipe = failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError())
    start(configured((1, 0), STEADY), manifest, RUN, heard.append, recipe)
    assert [event.micro_batches for event in heard if isinstance(event, MemoryRanOut)] == [2, 4]
    assert len([event for event in heard if isinstance(event, StepDone)]) == 4
    assert close(steady, RUN, within=1e-4)


def test_other_errors_are_not_taken_for_it(manifest: Manifest) -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        start(configured((1, 0)), manifest, RUN, recipe_class=failing(RuntimeError("shapes do not fit")))
    assert read_status(RUN)["ended"] == "RuntimeError: shapes do not fit"


# ---------------------------------------------------------------------------------------------------------- settings of the step


@pytest.fixture(scope="module")
def steady(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which nothing is left to chance."""
    path = tmp_path_factory.mktemp("steady") / "run"
    start(configured((1, 0), STEADY), manifest, path)
    return path


def close(one: Path, other: Path, *, within: float) -> bool:
    a, b = tensors(one), tensors(other)
    return all(torch.allclose(a[name].double(), b[name].double(), atol=within) for name in a if "last.safetensors:model" in name)


@pytest.mark.parametrize(
    "layer",
    [
        {"compute": {"accumulate": 2}},
        {"compute": {"accumulate": 7}},
        {"compute": {"accumulate": 100}},
        {"compute": {"gradient_checkpointing": True, "channels_last": False}},
    ],
    ids=["two micro-batches", "as many as images", "more than images", "checkpointing, channels first"],
)
def test_what_saves_memory_or_time_changes_nothing(manifest: Manifest, steady: Path, layer: dict[str, Any]) -> None:
    start(configured((1, 0), STEADY, layer), manifest, RUN)
    for one, two in zip(numbers(steady), numbers(RUN), strict=True):
        assert float(two["loss"]) == pytest.approx(float(one["loss"]), rel=1e-4)
    assert close(steady, RUN, within=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        {"optim": {"clip_grad_norm": 1e-3}},
        {"stages": {"classification": {"layer_decay": 0.5}}},
        {"stages": {"classification": {"mixup": 1.0}}},
        {"stages": {"classification": {"cutmix": 1.0}}},
        {"stages": {"classification": {"mix": "splice", "losses": {"asymmetric": 1.0, "splice_consistency": 1.0}}}},
        {"loss": {"asymmetric": {"class_weights": "neg-pos"}}},
        {"loss": {"asymmetric": {"class_weights": "effective-number"}}},
        {"data": {"sampler": "repeat-factor"}},
        {"precision": "bf16"},
    ],
    ids=lambda layer: ".".join(str(layer).split("'")[1:6:2]),
)
def test_what_is_to_change_the_training_does(manifest: Manifest, steady: Path, layer: dict[str, Any]) -> None:
    start(configured((1, 0), STEADY, layer), manifest, RUN)
    assert not close(steady, RUN, within=1e-7)
    assert all(float(row["loss"]) < 5 for row in numbers(RUN))


def test_pseudo_labels_are_learned_from_where_labels_are_hidden(manifest: Manifest) -> None:
    layer: dict[str, Any] = {"data": {"hide_labels": 0.5}, "optim": {"pseudo_labels": 0.501}}
    for from_epoch in (1, 2):
        layer["optim"]["pseudo_from_epoch"] = from_epoch
        start(configured((1, 0), STEADY, layer), manifest, Path(f"from-{from_epoch}"))
    assert not close(Path("from-1"), Path("from-2"), within=1e-7)


def test_every_inactive_label_hidden_needs_a_loss_that_uses_unknown_ones(manifest: Manifest) -> None:
    hidden: dict[str, Any] = {"data": {"single_positive": True}}
    with pytest.raises(
        UsageError, match=r"Every inactive training label is hidden.*\(selective, distillation\).*hidden_labels=inactive"
    ):
        start(configured((1, 0), STEADY, hidden), manifest, RUN)
    stage = {"stages": {"classification": {"losses": {"asymmetric": 0.0, "selective": 1.0}}}}
    start(configured((1, 0), STEADY, hidden, stage), manifest, RUN)


def test_the_prior_of_the_selective_loss_is_the_mean_score_of_a_first_model(manifest: Manifest) -> None:
    hidden: dict[str, Any] = {"data": {"hide_labels": 0.5}}
    start(configured((1, 0), STEADY, hidden), manifest, Path("first"))
    stage: dict[str, Any] = {
        "stages": {"classification": {"losses": {"asymmetric": 0.0, "selective": 1.0}}},
        "loss": {"selective": {"prior_model": "first"}},
    }
    priors: list[Tensor] = []

    class Watched(TrainingRecipe):
        def train_epoch(self) -> dict[str, float]:
            assert self.training_step.prior is not None
            priors.append(self.training_step.prior)
            return super().train_epoch()

    start(configured((1, 0), STEADY, hidden, stage), manifest, RUN, recipe_class=Watched)
    evaluate("first", split="train", save_scores="scores.npz", bootstrap=0, device="cpu")
    torch.testing.assert_close(priors[0], torch.from_numpy(np.load("scores.npz")["scores"]).mean(dim=0))
    other = Manifest.from_records(Description("others", Path(), ("cat",)), [Record("a.png", "train", (0,))])
    with pytest.raises(UsageError, match="has no class 'cat'"):
        check_labels(configured((1, 0), stage).config, other)


def test_scores_that_are_no_probabilities_are_calibrated_before_a_threshold_is_used(manifest: Manifest) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    losses = {"losses": {"asymmetric": 0.0, "two_way": 1.0}}
    layer: dict[str, Any] = {"stages": {"classification": losses}, "data": {"hide_labels": 0.2}}
    heard: list[Event] = []
    start(configured((2, 0), layer), manifest, RUN, heard.append)
    assert heard[-1] == ScoresCalibrated("val", 12)
    card = load_model(RunDirectory(RUN).best).card
    assert card.trained["scores"] == "no probabilities"
    assert not load_model(RunDirectory(RUN).last).card.calibrated
    with pytest.raises(KeyboardInterrupt):
        start(configured((2, 0), layer), manifest, Path("stopped"), stop)
    go_on(Path("stopped"), manifest)
    assert load_model(RunDirectory(Path("stopped")).best).card == card
    result = calibrate(RUN, "f1", device="cpu", precision="fp32")  # as it is done by hand
    again = load_model(RunDirectory(RUN).best).card
    for values, others in zip(*((c.temperatures, c.biases, c.thresholds) for c in (again, card)), strict=True):
        assert values == pytest.approx(others, abs=1e-4)
    assert again.calibrated == result.about == card.calibrated


def test_the_mean_over_labels_that_are_not_revealed_is_that_of_the_whole_batch(manifest: Manifest) -> None:
    expected: list[float] = []

    class Watched(TrainingRecipe):
        def try_step(self, batch: Batch, step: int) -> dict[str, float]:
            parts = split_batch(*self.prepare_batch(batch, step), parts=3, batch_size=len(batch[1]))
            costs, labels = 0.0, 0
            for number, (images, targets) in enumerate(parts, start=1):
                self.seed_step(step, number)
                with torch.no_grad():
                    terms, _, _ = self.training_step(images, targets)
                self.seed_step(step, number)
                _, left = reveal(targets, share=0.9)
                costs += terms["asymmetric"].item() * int((left >= 0).sum())
                labels += int((left >= 0).sum())
            expected.append(costs / labels)
            losses = super().try_step(batch, step)
            assert losses["asymmetric"] == pytest.approx(expected[-1], rel=1e-5)
            return losses

    head = {"head": "c_tran", "heads": {"c_tran": {"width": 16, "feedforward": 16, "dropout": 0.0, "layers": 1}}}
    layer = {"model": head, "stages": {"classification": {"known_share": 0.9}}, "compute": {"accumulate": 3}}
    start(configured((1, 0), STEADY, layer), manifest, RUN, recipe_class=Watched)
    assert len(expected) == 4


def test_contrastive_losses_of_micro_batches_are_near_those_of_the_batch(manifest: Manifest) -> None:
    start(configured((1, 1), STEADY), manifest, Path("whole"))
    start(configured((1, 1), STEADY, {"compute": {"accumulate": 2}}), manifest, Path("parts"))
    one, two = numbers(Path("whole"))[1], numbers(Path("parts"))[1]
    assert float(two["asymmetric"]) == pytest.approx(float(one["asymmetric"]), rel=1e-2)
    for name in ("sample_to_sample", "prototype_to_sample"):
        assert 0.5 * float(one[name]) < float(two[name]) <= 1.01 * float(one[name])  # fewer to be told apart


def test_a_backbone_without_checkpointing_says_so() -> None:
    classifier = Classifier(
        ModelSection(backbone="test_resnet", stride=16, heads={"sarl": {"width": 16, "feedforward": 16}}, projection_width=8),
        num_classes=2,
        img_size=32,
    )
    classifier.backbone.net = torch.nn.Conv2d(3, 4, 1)
    with pytest.raises(UsageError, match="timm has no gradient checkpointing"):
        make_ready(classifier, RunConfig.model_validate({"compute": {"gradient_checkpointing": True}}))


def test_shards_need_several_processes() -> None:
    with pytest.raises(UsageError, match="cuts a network over several processes"):
        check_compute(RunConfig.model_validate({"compute": {"shard": True}}), "fp32")


@pytest.mark.slow
def test_a_compiled_network_computes_the_same_and_is_stored_as_it_was() -> None:
    classifier = Classifier(ModelSection(backbone="test_resnet", stride=16, head="pooled"), num_classes=2, img_size=32).eval()
    images, names = torch.randn(2, 3, 32, 32), list(classifier.state_dict())
    with torch.no_grad():
        expected = classifier(images).logits
        make_ready(classifier, RunConfig.model_validate({"compute": {"compile": True}}))
        torch.testing.assert_close(classifier(images).logits, expected, rtol=1e-4, atol=1e-5)
    assert classifier._compiled_call_impl is not None
    assert list(classifier.state_dict()) == names
