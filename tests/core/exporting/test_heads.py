"""Every head as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from sadcl_core.exporting.onnx_writer import write_onnx
from sadcl_core.model.heads.interface import Head, HeadInputs
from sadcl_core.registry import HEADS
from tests.core.model.heads.test_interface import all_inputs_of, make

OUTPUTS = ("logits", "label_features", "attention")
KINDS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in HEADS),
    ("csra", {"attention_heads": 4}),
    ("ml_decoder", {"groups": 2}),
    ("generated", {"generator": "dictionary"}),
    ("ssgrl", {"classifier_rounds": 1}),
]


class Exported(nn.Module):
    """A head that sees maps, and prototypes if it reads them."""

    def __init__(self, head: Head, prototypes: Tensor | None) -> None:
        super().__init__()
        self.head, self.prototypes = head, prototypes

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        output = self.head(HeadInputs(maps, prototypes=self.prototypes), need_attention=True)
        assert output.attention is not None
        return output.logits, output.label_features, output.attention


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), KINDS, ids=lambda value: str(value))
def test_as_onnx_it_is_the_same_for_batches_of_any_size(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    head = make(name, options)
    inputs = all_inputs_of(head, torch.randn(2, 6, 4, 4))
    network = Exported(head, inputs.prototypes).eval()
    head.precompute()
    with torch.no_grad():
        shapes = {"maps": tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs.maps)}
        program = torch.export.export(network, inputs.maps, dynamic_shapes=shapes, strict=False)
    names = [f"map{number}" for number in range(len(inputs.maps))]
    axes = dict.fromkeys(names, ("batch", "channels", "height", "width"))
    write_onnx(program, tmp_path / "head.onnx", inputs=axes, outputs=OUTPUTS, metadata={})
    session = onnxruntime.InferenceSession(str(tmp_path / "head.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        maps = all_inputs_of(head, torch.randn(count, 6, 4, 4)).maps
        arrays = session.run(None, {key: seen.numpy() for key, seen in zip(names, maps, strict=True)})
        with torch.no_grad():
            expected = network(*maps)
        actual = {key: torch.from_numpy(array) for key, array in zip(OUTPUTS, arrays, strict=True)}
        torch.testing.assert_close(actual, dict(zip(OUTPUTS, expected, strict=True)), atol=1e-4, rtol=1e-4)
