from __future__ import annotations

from pathlib import Path

import torch

from sadcl_core.inference.figures import draw_predictions
from sadcl_core.inference.load import load_trained
from sadcl_core.inference.split import open_split


def test_predictions_are_made_in_batches(trained: Path, tmp_path: Path) -> None:
    model = load_trained(trained / "runs" / "coco", device="cpu")
    split = open_split(model, data=str(trained / "my-coco"), split="val").split
    sizes: list[int] = []

    def note(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))

    model.classifier.backbone.register_forward_pre_hook(note)
    draw_predictions(model, split, tmp_path / "p.png", count=12, batch_size=5)
    assert sizes == [5, 5, 2]
