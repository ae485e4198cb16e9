from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sadcl_core.data.dataset import Batch
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.model.classifier import ClassifierOutput
from sadcl_core.training.prototypes import CONFIDENT, DECODER, POSITIVES, ClassCoverage, build_prototypes
from tests.processes import run_ranks

PLAIN = Preprocessing(img_size=16, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)


class Stub(nn.Module):
    """The label feature of class k is (value of the image, k); the score is high for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.zeros(3, 2))

    def forward(self, images: Tensor, *, need_attention: bool = False, known: Tensor | None = None) -> ClassifierOutput:
        value = images[:, 0, 0, 0]
        k = torch.arange(3.0).expand(len(images), 3)
        logits = torch.where(value > 100, 5.0, 0.0)[:, None].expand(-1, 3)
        features = torch.stack([value[:, None].expand(-1, 3), k], dim=-1)
        return ClassifierOutput(logits, features, image_features=value[:, None])


VALUES = [200, 240, 20, 40]
TARGETS = [[1, 0, 0], [1, 0, -1], [1, 1, -1], [0, 1, 0]]


def built_from(images: list[int]) -> tuple[Tensor, tuple[ClassCoverage, ...]]:
    """The prototypes of some of the four images."""
    rows = [
        (torch.full((3, 16, 16), VALUES[i], dtype=torch.uint8), torch.tensor(TARGETS[i], dtype=torch.int8), torch.tensor(i))
        for i in images
    ]
    loader: DataLoader[Batch] = DataLoader(rows, batch_size=2)  # type: ignore[arg-type]
    return build_prototypes(
        Stub(),  # type: ignore[arg-type]
        loader,
        classes=("a", "b", "c"),
        min_score=0.85,
        preprocessing=PLAIN,
        device=torch.device("cpu"),
    )


def test_confident_then_all_positives_then_decoder_output() -> None:
    prototypes, coverage = built_from([0, 1, 2, 3])
    # a: the two bright images; b: both of its positives, dark as they are; c: never active, so all where it is known
    torch.testing.assert_close(prototypes, torch.tensor([[220.0, 0.0], [30.0, 1.0], [120.0, 2.0]]))
    assert [(c.positives, c.confident, c.made_from) for c in coverage] == [(3, 2, CONFIDENT), (2, 0, POSITIVES), (0, 0, DECODER)]


def test_a_class_that_is_unknown_everywhere_takes_all_images() -> None:
    prototypes, coverage = built_from([1, 2])
    torch.testing.assert_close(prototypes[2], torch.tensor([130.0, 2.0]))
    assert coverage[2].made_from == DECODER


def in_each_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    prototypes, coverage = built_from([0] if rank == 0 else [1, 2, 3])
    torch.save((prototypes, [vars(entry) for entry in coverage]), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_build_what_one_builds(tmp_path: Path) -> None:
    run_ranks(in_each_process, tmp_path)
    expected, coverage = built_from([0, 1, 2, 3])
    for rank in range(2):
        prototypes, entries = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(prototypes, expected)
        assert entries == [vars(entry) for entry in coverage]
