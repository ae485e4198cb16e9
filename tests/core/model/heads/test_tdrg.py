from __future__ import annotations

import torch
import torch.nn.functional as F

from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.model.heads.tdrg import TDRGHead
from tests.core.model.heads.inputs import fixed_logits, linear

SMALL = {"width": 8, "attention_heads": 2, "feedforward": 16, "layers": 1}


def make_head() -> TDRGHead:
    torch.manual_seed(0)
    return TDRGHead(channels=(4, 6), num_classes=3, options=head_options("tdrg", SMALL)).eval()


def resized(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def test_head_by_hand() -> None:
    head, shallow, deep = make_head(), torch.randn(2, 4, 10, 10), torch.randn(2, 6, 5, 5)
    output = head(HeadInputs((shallow, deep)))
    scales = [head.fine(shallow), head.middle(deep), head.coarse(deep)]
    assert [tuple(scale.shape[-2:]) for scale in scales] == [(10, 10), (5, 5), (2, 2)]
    product = scales[0] * resized(scales[1], (10, 10)) * resized(scales[2], (10, 10))
    encoded = []
    for scale in scales:
        tokens = (scale + resized(product, scale.shape[-2:])).flatten(2).transpose(1, 2)
        encoded.append(head.encoder[0](tokens, position=torch.zeros(())))
    structural = linear(head.structural, torch.cat([x.max(dim=1).values for x in encoded], dim=1))
    torch.testing.assert_close(output.auxiliary["structural"], structural)
    scores = head.masks(deep).flatten(2)
    torch.testing.assert_close(output.auxiliary["masks"], scores.max(dim=2).values)  # one of 25 locations
    content = scores.sigmoid() @ head.content(deep).flatten(2).transpose(1, 2)
    nodes = torch.cat([content, linear(head.context, scores.sigmoid() @ encoded[1])], dim=-1)
    features = nodes + head.dynamic(nodes, torch.cat([x.mean(dim=1) for x in encoded], dim=1))
    torch.testing.assert_close(output.label_features, features)
    graph = (features * head.weight).sum(dim=-1) + head.bias
    torch.testing.assert_close(output.auxiliary["graph"], graph)
    torch.testing.assert_close(output.logits, 0.7 * structural + 0.3 * graph)


def test_the_graph_informs_the_transformer_of_nothing() -> None:
    """What goes from the transformer to the graph is detached."""
    head = make_head()
    output = head(HeadInputs((torch.randn(2, 4, 10, 10), torch.randn(2, 6, 5, 5))))
    output.auxiliary["graph"].sum().backward()
    assert head.fine.weight.grad is None
    assert head.content.weight.grad is not None


def test_golden_output() -> None:
    torch.testing.assert_close(fixed_logits(make_head()), torch.tensor([[-5.68702, 0.76536, 5.94244]]), atol=1e-4, rtol=1e-4)
