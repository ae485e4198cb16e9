"""What an unknown label hides changes nothing anywhere: from the label file to losses, memory bank, prototypes and metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sadcl_core.config.schema import LossSection
from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import Manifest, load_manifest
from sadcl_core.data.prepare.assignment import assign_splits
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.evaluation.evaluate import evaluate_scores
from sadcl_core.model.classifier import ClassifierOutput
from sadcl_core.model.memory_bank import MemoryBank, confident
from sadcl_core.training.terms import LossInputs, loss_terms
from tests.conftest import Sadcl, make_voc, voc_object

IMAGES, CLASSES, WIDTH = 6, 4, 5
TERMS = ("asymmetric", "sample_to_sample", "prototype_to_sample")


class Stub(nn.Module):
    """What the losses take of a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(7))

    def project(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(features, dim=-1)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Targets with all three values, logits and label features."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(-1, 2, (IMAGES, CLASSES), generator=generator)
    assert set(targets.unique().tolist()) == {-1, 0, 1}
    logits = torch.randn(IMAGES, CLASSES, generator=generator)
    return targets, logits, torch.randn(IMAGES, CLASSES, WIDTH, generator=generator)


def run(targets: Tensor, logits: Tensor, features: Tensor) -> tuple[dict[str, Tensor], MemoryBank]:
    """The loss terms of a step, and the bank after it."""
    bank = MemoryBank(slots=3, num_classes=CLASSES, width=WIDTH)
    bank.start_from(Stub().prototypes)
    output = ClassifierOutput(logits, features, image_features=features.mean(dim=1))
    terms = loss_terms(LossInputs(Stub(), output, targets, bank, LossSection()), TERMS)  # type: ignore[arg-type]
    bank.write(*confident(features.detach(), targets, logits.detach().sigmoid(), min_score=0.3))
    return terms, bank


def test_what_the_network_makes_of_an_unknown_label_reaches_no_loss_and_no_bank() -> None:
    targets, logits, features = batch()
    hidden = targets == -1
    terms, bank = run(targets, logits, features)
    others = logits.masked_fill(hidden, 9.0), features.masked_fill(hidden[..., None], 100.0)
    other_terms, other_bank = run(targets, *others)
    assert {name: term.item() for name, term in terms.items()} == {name: term.item() for name, term in other_terms.items()}
    assert torch.equal(bank.features, other_bank.features)
    assert torch.equal(bank.filled, other_bank.filled)


@pytest.mark.parametrize("name", TERMS)
def test_no_loss_sends_a_gradient_to_an_unknown_label(name: str) -> None:
    targets, logits, features = batch()
    logits.requires_grad_()
    features.requires_grad_()
    terms, _ = run(targets, logits, features)
    for values in torch.autograd.grad(terms[name], (logits, features), allow_unused=True):
        if values is not None:
            assert (values[targets == -1] == 0).all()
            assert (values[targets != -1] != 0).any()


def test_no_metric_looks_at_the_score_of_an_unknown_label() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(-1, 2, (50, CLASSES)).astype(np.int8)
    scores = rng.random((50, CLASSES)).astype(np.float32)
    names = tuple("abcd")
    first = evaluate_scores(scores, targets, names).as_json()
    for hidden in (0.0, 1.0):
        other = np.where(targets == -1, np.float32(hidden), scores)
        assert evaluate_scores(other, targets, names).as_json() == first


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(8):
        Image.new("RGB", (16, 12), (30 * number, 90, 200)).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("mark", ["", "-1", "?", "nan", " "])
def test_every_spelling_of_unknown_is_the_same(photos: Path, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    rows = [f"{n}.png,{n % 2},{mark if n % 3 == 0 else 1},{int(n > 3)}" for n in range(8)]
    (photos / "labels.csv").write_text("\n".join(["image,cat,dog,car", *rows]))
    manifest = prepare("labels.csv", split="test").manifest
    split = manifest.split("test")
    assert [split.targets(n)[1] for n in range(8)] == [-1, 1, 1, -1, 1, 1, -1, 1]
    assert split.unknown_counts().tolist() == [0, 3, 0]
    loaded = torch.cat([targets for _, targets, _ in make_loader(split, lambda image: image, batch_size=4, workers=0)])
    assert (loaded[:, 1] == -1).sum() == 3


def test_unknown_labels_have_no_say_in_the_division(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    rows = [f"{n}.png,{n % 2},{'?' if n % 3 == 0 else 1}" for n in range(8)]
    (photos / "labels.csv").write_text("\n".join(["image,cat,dog", *rows]))
    manifest = prepare("labels.csv", split="test").manifest
    hidden = manifest.rows.set_column(3, "unknown", manifest.rows["unknown"].combine_chunks().take([1] * 8))
    for rows_of in (manifest.rows, hidden):
        divided, _ = assign_splits(Manifest(manifest.description, rows_of), {"train": 0.5, "val": 0.5}, seed=3)
        expected, _ = assign_splits(manifest, {"train": 0.5, "val": 0.5}, seed=3)
        assert list(divided.split("train")) == list(expected.split("train"))


@pytest.mark.parametrize(("difficult", "value"), [("ignore", -1), ("negative", 0), ("positive", 1)])
def test_what_difficult_means_is_the_persons_choice(tmp_path: Path, sadcl: Sadcl, difficult: str, value: int) -> None:
    splits = {"trainval": {"000001": [voc_object("dog", difficult=1)]}, "test": {"000002": [voc_object("dog")]}}
    voc = make_voc(tmp_path / "voc", splits)
    sadcl("prepare-data", "voc2007", "--data", voc, "--difficult", difficult)
    manifest = load_manifest(Path("prepared/voc2007"))
    assert manifest.split("train").targets(0)[manifest.classes.index("dog")] == value
    assert manifest.description.options["difficult"] == difficult
