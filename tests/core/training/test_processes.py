"""Two processes that really run do what one does with the same batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from sadcl_core.config.schema import LossSection, ModelSection, RunConfig
from sadcl_core.data.splicing import Splices
from sadcl_core.model.classifier import Classifier, head_options
from sadcl_core.model.memory_bank import MemoryBank
from sadcl_core.registry import HEADS, resolve
from sadcl_core.training.parallel import full_state_dict, load_full_state_dict, shard, start_accelerate, wrap
from sadcl_core.training.terms import TERMS, TrainingStep, weighted_sum
from tests.core.model.heads.inputs import SMALL, facts_of
from tests.processes import run_ranks

SECTION = ModelSection(
    backbone="test_resnet",
    stride=16,
    head="sarl",
    heads={"sarl": {"width": 16, "feedforward": 16, "dropout": 0.0}},
    projection_width=8,
    freeze_stride=0,
    freeze_batchnorm=True,
)

HEADS_ALONE = tuple(name for name in HEADS if name != "sarl")
WEIGHTS = {name: 1.0 if name == "asymmetric" else 0.5 for name in TERMS if name not in ("auxiliary", "penalty", "dictionary")}
PLACES = ([0, 1, 2, 7], [3, 4, 5, 6, 8])  # of the images of each process where two are spliced
SOURCES = torch.tensor([[2, 0], [4, 6]])


def make(head: str = "sarl") -> TrainingStep:
    """A step with every loss that a head has something for; it neither drops features nor normalises over a batch."""
    torch.manual_seed(0)
    kind, section, terms = resolve(HEADS, head, kind="head"), SECTION, tuple(WEIGHTS)
    if head != "sarl":
        plain = {"dropout": 0.0, "norm": "layer"}
        own = {**SMALL[head], **{name: value for name, value in plain.items() if name in kind.Options.model_fields}}
        section = SECTION.model_copy(update={"head": head, "heads": {head: own}})
        measured = kind.measured(head_options(head, own))
        terms = (
            "asymmetric",
            "sample_to_sample",
            "prototype_to_sample",
            *(["auxiliary"] if any(kind.AUXILIARY.values()) else []),
        )
        terms = (*terms, *(name for name, term in TERMS.items() if term.measures and term.measures <= measured))
    classifier = Classifier(section, num_classes=5, img_size=32)
    classifier.head.prepare(facts_of(list(range(5))))
    torch.nn.init.normal_(classifier.prototypes)
    bank = MemoryBank(slots=3, num_classes=5, width=classifier.head.width)
    bank.start_from(torch.randn(5, classifier.head.width))
    return TrainingStep(classifier, terms=terms, options=LossSection(), bank=bank).train()


def batch(kind: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    count = 9 if kind == "spliced" else 7
    images = torch.randn(count, 3, 32, 32, generator=generator)
    targets = torch.randint(-1, 2, (count, 5), generator=generator).to(torch.int8)
    if kind == "one process without an active label":
        targets[3:].clamp_(max=0)
    if kind == "no active label":
        targets.clamp_(max=0)
    if kind == "mixed":
        targets = torch.rand(7, 5, generator=generator).round(decimals=1)
        targets[0] = 1.0
    return images, targets


def teacher_logits(targets: Tensor) -> Tensor:
    return torch.randn(len(targets), 5, generator=torch.Generator().manual_seed(2))


def part(kind: str, rank: int) -> tuple[Tensor, Tensor, int, Splices | None, Tensor]:
    """What a process sees of the batch."""
    images, targets = batch(kind)
    if kind != "spliced":
        places, splices = ([0, 1, 2], [3, 4, 5, 6])[rank], None
    else:
        places = PLACES[rank]
        splices = Splices((1, 2), SOURCES[rank : rank + 1] - (0, 3)[rank], torch.tensor([[True, rank == 1]]))
    return images[places], targets[places], 0, splices, teacher_logits(targets)[places]


def whole(kind: str) -> tuple[Tensor, Tensor, int, Splices | None, Tensor]:
    """What one process sees that has all of it."""
    splices = Splices((1, 2), SOURCES, torch.tensor([[True, False], [True, True]])) if kind == "spliced" else None
    images, targets = batch(kind)
    return images, targets, 0, splices, teacher_logits(targets)


KINDS = ("usual", "one process without an active label", "no active label", "mixed", "spliced")
CASES = (*(("sarl", kind) for kind in KINDS), *((head, "usual") for head in HEADS_ALONE))


def join(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", OMP_NUM_THREADS="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29501")  # looked at by accelerate, not used: the group is there
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)


def result_of(step: TrainingStep, terms: dict[str, Tensor]) -> dict[str, Any]:
    gradients = {name: p.grad.clone() for name, p in step.classifier.named_parameters() if p.grad is not None}
    return {"terms": {name: term.detach() for name, term in terms.items()}, "gradients": gradients}


def work_in_each_process(rank: int, folder: str) -> None:
    join(rank, folder)
    store_gradients(rank, folder)
    store_gradients_of_shards(rank, folder)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes stored."""
    folder = tmp_path_factory.mktemp("processes")
    run_ranks(work_in_each_process, folder)
    return folder


def store_gradients(rank: int, folder: str) -> None:
    accelerator = start_accelerate(torch.device("cpu"), "fp32")
    stored = {}
    for head, kind in CASES:
        step = make(head)
        model, _ = wrap(accelerator, step, torch.optim.SGD(step.parameters(), lr=0.1), config=RunConfig())
        terms, rows, labels = model(*part(kind, rank))
        accelerator.backward(weighted_sum(terms, dict.fromkeys(terms, 0.5)))
        assert step.bank is not None
        step.bank.write(rows, labels)
        stored[head, kind] = {**result_of(step, terms), "bank": step.bank.state_dict()}
    torch.save(stored, Path(folder) / f"{rank}.pt")


@pytest.mark.slow
def test_losses_gradients_and_bank_are_those_of_one_process_with_the_whole_batch(stored: Path) -> None:
    first, second = (torch.load(stored / f"{rank}.pt", weights_only=True) for rank in range(2))
    for case in CASES:
        head, kind = case
        step = make(head)
        terms, rows, labels = step(*whole(kind))
        weighted_sum(terms, dict.fromkeys(terms, 0.5)).backward()
        assert step.bank is not None
        step.bank.write(rows, labels)
        alone = result_of(step, terms)
        for other in (first[case], second[case]):
            for name, term in alone["terms"].items():
                assert other["terms"][name].item() == pytest.approx(term.item(), rel=1e-5, abs=1e-7), (case, name)
            assert set(other["gradients"]) == set(alone["gradients"])
            for name, gradient in alone["gradients"].items():
                torch.testing.assert_close(other["gradients"][name], gradient, rtol=1e-4, atol=1e-6, msg=f"{case}: {name}")
            for name, tensor in step.bank.state_dict().items() if kind != "spliced" else ():  # written in another order
                torch.testing.assert_close(other["bank"][name], tensor, rtol=1e-4, atol=1e-5)
        for module in ("backbone", "head", "projection", "prototypes") if kind == "usual" else ():
            assert any(gradient.any() for name, gradient in alone["gradients"].items() if name.startswith(module)), (head, module)


def store_gradients_of_shards(rank: int, folder: str) -> None:
    step = make()
    before = {name: tensor.clone() for name, tensor in step.classifier.state_dict().items()}
    shard(step.classifier)
    local = sum(p.to_local().numel() for p in step.classifier.parameters())  # type: ignore[attr-defined]
    assert local < 0.6 * sum(tensor.numel() for tensor in before.values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in full_state_dict(step.classifier).items())
    load_full_state_dict(step.classifier, {name: tensor + 1 for name, tensor in before.items()})
    assert all(torch.equal(tensor, before[name] + 1) for name, tensor in full_state_dict(step.classifier).items())
    load_full_state_dict(step.classifier, before)
    terms, _, _ = step(*part("spliced", rank))
    weighted_sum(terms, WEIGHTS).backward()
    gradients = {name: p.grad.full_tensor() for name, p in step.classifier.named_parameters() if p.grad is not None}  # type: ignore[attr-defined]
    torch.save(gradients, Path(folder) / f"shards-{rank}.pt")


@pytest.mark.slow
def test_a_network_in_shards_has_the_gradients_of_a_whole_one(stored: Path) -> None:
    step = make()
    terms, _, _ = step(*whole("spliced"))
    weighted_sum(terms, WEIGHTS).backward()
    gradients = torch.load(stored / "shards-0.pt", weights_only=True)
    for name, parameter in step.classifier.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
