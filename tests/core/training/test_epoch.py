"""What the switches of a step change, and what they must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sadcl_core.config.schema import ModelSection, RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DivergedError, UsageError
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.run_directory import read_status
from sadcl_core.training import epoch
from sadcl_core.training.epoch import ran_out_of_memory
from sadcl_core.training.listeners.events import Event, Note, StepDone
from sadcl_core.training.parallel import check_compute, make_ready
from tests.conftest import make_coco
from tests.core.training.resumable import configured, numbers, start, tensors

STEADY: dict[str, Any] = {
    "model": {"freeze_batchnorm": True, "heads": {"sarl": {"dropout": 0.0}}},
    "stages": {"classification": {"augment": "none", "optimizer": "sgd", "lr": 0.05}},  # AdamW makes much of a small rounding
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("data")
    return prepare("coco", data=make_coco(folder / "coco"), output=folder / "prepared").manifest


@pytest.fixture(scope="module")
def steady(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which nothing is left to chance."""
    path = tmp_path_factory.mktemp("steady") / "run"
    start(configured((2, 0), STEADY), manifest, path)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def close(one: Path, other: Path, *, within: float) -> bool:
    a, b = tensors(one), tensors(other)
    return all(torch.allclose(a[name].double(), b[name].double(), atol=within) for name in a if "last.safetensors:model" in name)


@pytest.mark.parametrize(
    "layer",
    [
        {"compute": {"accumulate": 2}},
        {"compute": {"accumulate": 7}},
        {"compute": {"accumulate": 100}},
        {"compute": {"gradient_checkpointing": True}},
        {"compute": {"channels_last": False}},
    ],
    ids=["two parts", "as many as images", "more than images", "checkpointing", "channels first"],
)
def test_what_saves_memory_or_time_changes_nothing(manifest: Manifest, steady: Path, layer: dict[str, Any]) -> None:
    start(configured((2, 0), STEADY, layer), manifest, Path("run"))
    for one, two in zip(numbers(steady), numbers(Path("run")), strict=True):
        assert float(two["loss"]) == pytest.approx(float(one["loss"]), rel=1e-4)
    assert close(steady, Path("run"), within=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        {"optim": {"clip_grad_norm": 1e-3}},
        {"stages": {"classification": {"layer_decay": 0.5}}},
        {"stages": {"classification": {"mixup": 1.0}}},
        {"stages": {"classification": {"cutmix": 1.0}}},
        {"loss": {"asymmetric": {"class_weights": "neg-pos"}}},
        {"loss": {"asymmetric": {"class_weights": "effective-number"}}},
        {"data": {"sampler": "repeat-factor"}},
        {"precision": "bf16"},
    ],
    ids=lambda layer: ".".join(str(layer).split("'")[1:6:2]),
)
def test_what_is_to_change_the_training_does(manifest: Manifest, steady: Path, layer: dict[str, Any]) -> None:
    start(configured((2, 0), STEADY, layer), manifest, Path("run"))
    assert not close(steady, Path("run"), within=1e-7)
    assert all(float(row["loss"]) < 5 for row in numbers(Path("run")))


def test_contrastive_losses_of_parts_are_near_those_of_the_whole(manifest: Manifest) -> None:
    start(configured((1, 1), STEADY), manifest, Path("whole"))
    start(configured((1, 1), STEADY, {"compute": {"accumulate": 2}}), manifest, Path("parts"))
    one, two = numbers(Path("whole"))[1], numbers(Path("parts"))[1]
    assert float(two["asymmetric"]) == pytest.approx(float(one["asymmetric"]), rel=1e-2)
    for name in ("sample_to_sample", "prototype_to_sample"):
        assert 0.5 * float(one[name]) < float(two[name]) <= 1.01 * float(one[name])  # fewer to be told apart


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Errors that the next steps end with, instead of being made."""
    errors: list[BaseException] = []
    before = epoch._optimise

    def fail(*arguments: Any) -> dict[str, float]:
        if errors:
            raise errors.pop(0)
        return before(*arguments)

    monkeypatch.setattr(epoch, "_optimise", fail)
    return errors


def test_a_step_is_made_again_in_smaller_parts(manifest: Manifest, steady: Path, failing: list[BaseException]) -> None:
    heard: list[Event] = []
    failing += [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()]
    start(configured((2, 0), STEADY), manifest, Path("run"), heard.append)
    warnings = [event.text for event in heard if isinstance(event, Note) and event.warning]
    assert [text.split(" parts")[0][-1] for text in warnings] == ["2", "4"]
    assert "--accumulate 4" in warnings[1]
    assert len([event for event in heard if isinstance(event, StepDone)]) == 8
    assert close(steady, Path("run"), within=1e-4)


def test_other_errors_are_not_taken_for_it(manifest: Manifest, failing: list[BaseException]) -> None:
    failing += [RuntimeError("shapes do not fit")]
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        start(configured((1, 0)), manifest, Path("run"))


def test_what_memory_that_ran_out_looks_like() -> None:
    assert ran_out_of_memory(MemoryError())
    assert ran_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory"))
    assert not ran_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out_of_memory(ValueError("out of memory"))


def test_weights_that_are_no_numbers_are_not_saved(manifest: Manifest) -> None:
    def spoil(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            optimise = epoch._update

            def update(training: Any, state: Any, step: int) -> None:
                optimise(training, state, step)
                next(state.classifier.head.parameters()).data.fill_(float("nan"))

            patch.setattr(epoch, "_update", update)

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(DivergedError, match=r"not (a finite number|finite after step)"),
    ):
        start(configured((3, 0), {"save_every": 1}), manifest, Path("run"), spoil)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors(Path("run")).values())


def test_weights_broken_by_the_last_step_of_an_epoch_are_in_no_file(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    optimise = epoch._update

    def update(training: Any, state: Any, step: int) -> None:
        optimise(training, state, step)
        if state.place.epoch == 1 and step == state.steps:
            for network in (state.classifier, state.ema.module):
                next(network.head.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(epoch, "_update", update)
    with pytest.raises(DivergedError, match="not finite after step 4 of epoch 1"):
        start(configured((3, 0)), manifest, Path("run"))
    assert read_status(Path("run"))["status"] == "diverged"
    assert all(bool(tensor.isfinite().all()) for tensor in tensors(Path("run")).values() if tensor.is_floating_point())


@pytest.mark.parametrize(("images", "views", "number", "sizes"), [(7, 1, 2, [4, 3]), (5, 2, 3, [4, 4, 2]), (2, 1, 9, [1, 1])])
def test_parts_are_as_many_as_asked_for_and_keep_views_together(images: int, views: int, number: int, sizes: list[int]) -> None:
    batch = torch.arange(images * views)[:, None]
    parts = epoch._cut(batch, batch, number=number, of=images)
    assert [len(part) for part, _ in parts] == sizes
    assert torch.equal(torch.cat([targets for _, targets in parts]), batch)


def test_a_backbone_without_checkpointing_says_so() -> None:
    classifier = Classifier(ModelSection(backbone="test_resnet", stride=16), num_classes=2, img_size=32)
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
