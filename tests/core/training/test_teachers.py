"""Distillation: what teachers of all or of some classes say of a batch, and a student that learns from two of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.dataset import Batch
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.shape import shape_classes
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.errors import DataError, UsageError
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.card import ModelCard
from sadcl_core.runs.checkpoint import load_model, save_model
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.training.listeners.events import Event, StepDone
from sadcl_core.training.memory import training_memory
from sadcl_core.training.overlap import find_overlap
from sadcl_core.training.recipe import TrainingRecipe
from sadcl_core.training.teachers import Teachers, check_teachers
from tests.core.training.resumable import configured, differences, go_on, numbers, start

pytestmark = pytest.mark.usefixtures("here")
CPU = torch.device("cpu")
STUDENT = Preprocessing(32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
RUN = Path("student")


def teacher(name: str, *classes: str, seed: int = 0, **card: Any) -> Classifier:
    """Write a model file of these classes; by default with the preprocessing of the student."""
    torch.manual_seed(seed)
    section = ModelSection(backbone="test_resnet", stride=16, head="pooled", pretrained=False)
    about = {"img_size": 32, "mean": STUDENT.mean, "std": STUDENT.std, **card}
    classifier = Classifier(section, num_classes=len(classes), img_size=about["img_size"])
    save_model(Path(name), classifier.state_dict(), ModelCard(classes=classes, model=section, **about))
    return classifier.eval()


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return torch.stack([(pixels[:, k] - mean[k]) / std[k] for k in range(3)], dim=1)


def test_classes_are_joined_by_name_and_averaged_where_several_teachers_have_one() -> None:
    first = teacher("a.safetensors", "dog", "cat", "unicorn", seed=1)
    second = teacher("b.safetensors", "cow", "cat", seed=2)
    teachers = Teachers(["a.safetensors", "b.safetensors"], ("cat", "cow", "dog"), STUDENT, CPU)
    seen = normalised(images(), STUDENT.mean, STUDENT.std)
    logits = teachers(seen)
    with torch.no_grad():
        a, b = first(seen).logits, second(seen).logits
    for image in range(3):
        expected = [(a[image, 1] + b[image, 1]) / 2, b[image, 0], a[image, 0]]
        assert logits[image].tolist() == pytest.approx([value.item() for value in expected], abs=1e-6)
    assert not logits.requires_grad
    assert logits.dtype == torch.float32


def test_a_teacher_of_a_single_class() -> None:
    only = teacher("a.safetensors", "cat")
    seen = normalised(images(1), STUDENT.mean, STUDENT.std)
    torch.testing.assert_close(Teachers(["a.safetensors"], ("cat",), STUDENT, CPU)(seen), only(seen).logits.detach())


def test_a_teacher_sees_images_in_its_own_size_and_normalisation() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.3, 0.4, 0.5)
    other = teacher("a.safetensors", "cat", "dog", img_size=64, mean=mean, std=std)
    logits = Teachers(["a.safetensors"], ("cat", "dog"), STUDENT, CPU)(normalised(images(), STUDENT.mean, STUDENT.std))
    larger = torch.nn.functional.interpolate(images(), size=(64, 64), mode="bilinear", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(logits, other(normalised(larger, mean, std)).logits, rtol=1e-3, atol=1e-4)


def test_bfloat16_gives_the_same_logits_nearly() -> None:
    teacher("a.safetensors", "cat", "dog")
    teachers = Teachers(["a.safetensors"], ("cat", "dog"), STUDENT, CPU)
    seen = normalised(images(), STUDENT.mean, STUDENT.std)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = teachers(seen)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, teachers(seen), rtol=0.05, atol=0.05)


def test_a_student_of_scores_that_are_no_probabilities_gives_none() -> None:
    teacher("a.safetensors", "cat", trained={"scores": "no probabilities"})
    teacher("b.safetensors", "cat")
    assert Teachers(["b.safetensors"], ("cat",), STUDENT, CPU).probabilities
    assert not Teachers(["a.safetensors", "b.safetensors"], ("cat",), STUDENT, CPU).probabilities


def learning(*teachers: str, **stage: Any) -> dict[str, Any]:
    losses = {"asymmetric": 1.0, "distillation": 1.0}
    return {"loss": {"distillation": {"teachers": teachers}}, "stages": {"classification": {"losses": losses, **stage}}}


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        ({"loss": {"distillation": {"teachers": ["a.safetensors"]}}}, r"no stage learns from them. Add --set stages.class"),
        (learning(), r"Stage classification: the loss distillation has no teachers. Name trained runs: --set loss.dist"),
        (learning("a.safetensors"), r"no teacher has the class 'cow' \(missing: 1 of 3\)"),
        (learning("a.safetensors", "c.safetensors"), r"c.safetensors has none of the 3 classes of the data"),
        (learning("model.pth"), r"model.pth is no model file of sadcl train.*sadcl import"),
        (learning("model.onnx"), r"model.onnx is no model file of sadcl train"),
    ],
)
def test_teachers_that_cannot_teach_are_refused(layer: dict[str, Any], match: str) -> None:
    teacher("a.safetensors", "dog", "cat")
    teacher("c.safetensors", "horse")
    with pytest.raises(UsageError, match=match):
        check_teachers(configured((1, 0), layer).config, ("cat", "cow", "dog"))


def test_a_teacher_that_is_missing_is_named() -> None:
    with pytest.raises(DataError, match=r"There is no model file nowhere"):
        check_teachers(configured((1, 0), learning("nowhere")).config, ("cat",))


def test_weights_of_teachers_count_as_memory() -> None:
    teacher("a.safetensors", "cat")
    alone, taught = (
        training_memory(configured((1, 0), layer).config, classes=1, images=2) for layer in ({}, learning("a.safetensors"))
    )
    assert taught.weights - alone.weights == Path("a.safetensors").stat().st_size


@pytest.fixture(scope="module")
def teachers(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Runs of two teachers that have five classes each."""
    folder = tmp_path_factory.mktemp("teachers")
    paths = []
    for number, kept in enumerate((manifest.classes[:5], manifest.classes[5:])):
        path = folder / str(number)
        start(configured((1, 0)), shape_classes(manifest, merge={}, keep=kept).save(folder / f"data-{number}"), path)
        paths.append(str(path))
    return tuple(paths)


def test_a_student_learns_the_logits_of_two_teachers_of_parts_of_the_classes(
    manifest: Manifest, teachers: tuple[str, ...]
) -> None:
    distances: list[float] = []
    before = [load_model(RunDirectory(Path(path)).best).classifier.state_dict() for path in teachers]

    class Watched(TrainingRecipe):
        def try_step(self, batch: Batch, step: int) -> dict[str, float]:
            losses = super().try_step(batch, step)
            distances.append(losses["distillation"])
            for classifier, weights in zip(self.teachers.classifiers, before, strict=True):
                assert not classifier.training
                assert all(parameter.grad is None for parameter in classifier.parameters())
                assert all(tensor.equal(weights[name]) for name, tensor in classifier.state_dict().items())
            return losses

    layer = learning(*teachers, losses={"asymmetric": 0.0, "distillation": 1.0}, lr=1e-2, augment="none")
    start(configured((12, 0), layer), manifest, RUN, recipe_class=Watched)
    assert sum(distances[-4:]) < 0.5 * sum(distances[:4])
    card = load_model(RunDirectory(RUN).best).card
    assert card.classes == manifest.classes
    assert str(teachers[0]) not in card.model_dump_json()


@pytest.mark.parametrize(
    "more",
    [{}, {"stages": {"classification": {"mix": "splice", "mixup": 0.4, "views": 2}}}, {"precision": "bf16"}],
    ids=["plain", "mixed", "bf16"],
)
def test_a_run_with_teachers_is_resumed_to_the_bit(manifest: Manifest, teachers: tuple[str, ...], more: dict[str, Any]) -> None:
    made = configured((2, 0), learning(*teachers), more)
    start(made, manifest, RUN)
    count = 0

    def stop(event: Event) -> None:
        nonlocal count
        count += isinstance(event, StepDone)
        if count == 6:
            count += 1
            raise KeyboardInterrupt

    stopped = Path("stopped")
    with pytest.raises(KeyboardInterrupt):
        start(made, manifest, stopped, stop)
    go_on(stopped, manifest)
    assert differences(RUN, stopped) == []
    assert all(float(row["distillation"]) > 0 for row in numbers(RUN))


def test_micro_batches_change_nothing(manifest: Manifest, teachers: tuple[str, ...]) -> None:
    steady: dict[str, Any] = {"model": {"freeze_batchnorm": True, "heads": {"sarl": {"dropout": 0.0}}}}
    layer = learning(*teachers, augment="none", optimizer="sgd", lr=0.05)
    for parts in (1, 3):
        start(configured((1, 0), steady, layer, {"compute": {"accumulate": parts}}), manifest, Path(f"parts-{parts}"))
    one, two = (numbers(Path(f"parts-{parts}"))[0]["distillation"] for parts in (1, 3))
    assert float(two) == pytest.approx(float(one), rel=1e-4)


def test_a_run_does_not_go_on_with_another_teacher(manifest: Manifest, teachers: tuple[str, ...]) -> None:
    for path in teachers:
        shutil.copytree(path, Path(path).name)
    names = [Path(path).name for path in teachers]
    start(configured((1, 0), learning(*names)), manifest, RUN)
    shutil.copy(RunDirectory(Path(names[0])).last, RunDirectory(Path(names[1])).best)
    with pytest.raises(DataError, match="The run's teacher 2 has other weights than when the run was started"):
        go_on(RUN, manifest, epochs=(2, 0))


def test_held_out_images_that_a_teacher_was_trained_on_are_refused(manifest: Manifest, teachers: tuple[str, ...]) -> None:
    swapped = learning(*teachers)
    swapped["data"] = {"train_split": "val", "eval_split": "train"}
    with pytest.raises(DataError, match=rf"24 of the 24 images of split train were trained on by {teachers[0]}, {teachers[1]}"):
        start(configured((1, 0), swapped), manifest, RUN)
    swapped["data"]["allow_overlap"] = True
    start(configured((1, 0), swapped), manifest, RUN)
    after = configured((1, 0), {"model": {"init_from": str(RUN)}}).config
    assert set(find_overlap(after, manifest.split("val")).models) == {str(RUN), *teachers}  # the teachers of that run count too
