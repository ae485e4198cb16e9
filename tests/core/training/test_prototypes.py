from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sadcl_core.data.dataset import Batch
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.model.classifier import ClassifierOutput
from sadcl_core.training.prototypes import CONFIDENT, DECODER, POSITIVES, build_prototypes

PLAIN = Preprocessing(img_size=16, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)


class Stub(nn.Module):
    """The label feature of class k is (value of the image, k); the score is high for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.zeros(3, 2))

    def forward(self, images: Tensor) -> ClassifierOutput:
        value = images[:, 0, 0, 0]
        k = torch.arange(3.0).expand(len(images), 3)
        logits = torch.where(value > 100, 5.0, 0.0)[:, None].expand(-1, 3)
        return ClassifierOutput(logits, torch.stack([value[:, None].expand(-1, 3), k], dim=-1), value[:, None], None)


def test_confident_then_all_positives_then_decoder_output() -> None:
    values = [200, 240, 20, 40]
    targets = [[1, 0, 0], [1, 0, -1], [1, 1, -1], [0, 1, 0]]
    batches = [
        (torch.full((2, 3, 16, 16), v, dtype=torch.uint8), torch.tensor(t, dtype=torch.int8))
        for v, t in ((0, targets[:2]), (0, targets[2:]))
    ]
    for number, (images, _) in enumerate(batches):
        images[0], images[1] = values[2 * number], values[2 * number + 1]
    pairs = [(image, target) for images, batch in batches for image, target in zip(images, batch, strict=True)]
    loader: DataLoader[Batch] = DataLoader(pairs, batch_size=2)  # type: ignore[arg-type]
    prototypes, coverage = build_prototypes(
        Stub(),  # type: ignore[arg-type]
        loader,
        classes=("a", "b", "c"),
        min_score=0.85,
        preprocessing=PLAIN,
        device=torch.device("cpu"),
    )
    # a: the two bright images; b: both of its positives, dark as they are; c: never active, so all images
    torch.testing.assert_close(prototypes, torch.tensor([[220.0, 0.0], [30.0, 1.0], [125.0, 2.0]]))
    assert [(c.positives, c.confident, c.made_from) for c in coverage] == [(3, 2, CONFIDENT), (2, 0, POSITIVES), (0, 0, DECODER)]
