from __future__ import annotations

import torch
import torch.nn.functional as F

from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.add_gcn import ADDGCNHead
from tests.core.model.heads.inputs import fixed_logits, linear, see


def make_head() -> ADDGCNHead:
    torch.manual_seed(0)
    return ADDGCNHead(channels=(6,), num_classes=3, options=head_options("add_gcn", {"width": 8})).eval()


def test_head_by_hand() -> None:
    head, feature_map = make_head(), torch.randn(2, 6, 2, 3)
    output = head(see(feature_map), need_attention=True)
    x = feature_map.flatten(2).transpose(1, 2)  # (B, L, 6)
    projection = head.projection.weight[:, :, 0, 0]
    for b in range(2):
        scores = x[b] @ head.masks.weight[:, :, 0, 0].T  # (L, K)
        assert head.projection.bias is not None
        shown = x[b] @ projection.T + head.projection.bias
        nodes = torch.stack([sum(scores[m, k].sigmoid() * shown[m] for m in range(6)) for k in range(3)])  # type: ignore[misc]
        heard = torch.stack([sum(head.static[k, i] * nodes[i] for i in range(3)) for k in range(3)])  # type: ignore[misc]
        hidden = nodes + F.leaky_relu(linear(head.static_layer, F.leaky_relu(heard, 0.2)), 0.2)
        features = nodes + head.dynamic(hidden[None], hidden.mean(dim=0)[None])[0]
        torch.testing.assert_close(output.label_features[b], features)
        graph = (features * head.weight).sum(dim=1) + head.bias
        torch.testing.assert_close(output.auxiliary["graph"][b], graph)
        torch.testing.assert_close(output.auxiliary["masks"][b], scores.max(dim=0).values)
        torch.testing.assert_close(output.logits[b], (graph + scores.max(dim=0).values) / 2)
        assert output.attention is not None
        shares = scores.sigmoid() / scores.sigmoid().sum(dim=0)
        torch.testing.assert_close(output.attention[b].flatten(1), shares.T)


def test_golden_output() -> None:
    torch.testing.assert_close(fixed_logits(make_head()), torch.tensor([[-1.92905, 1.34276, 2.31028]]), atol=1e-4, rtol=1e-4)
