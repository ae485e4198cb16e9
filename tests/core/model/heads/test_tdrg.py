from __future__ import annotations

import torch

from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.model.heads.tdrg import TDRGHead

SMALL = {"width": 8, "attention_heads": 2, "feedforward": 16, "layers": 1}


def make_head() -> TDRGHead:
    torch.manual_seed(0)
    return TDRGHead(channels=(4, 6), num_classes=3, options=head_options("tdrg", SMALL)).eval()


def test_the_graph_informs_the_transformer_of_nothing() -> None:
    """What goes from the transformer to the graph is detached."""
    head = make_head()
    output = head(HeadInputs((torch.randn(2, 4, 10, 10), torch.randn(2, 6, 5, 5))))
    output.auxiliary["graph"].sum().backward()
    assert head.fine.weight.grad is None
    assert head.content.weight.grad is not None
