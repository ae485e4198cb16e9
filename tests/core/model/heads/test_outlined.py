"""Heads of which the papers leave something open, or that are small: each part by hand, and golden outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sadcl_core.model.classifier import head_options
from sadcl_core.model.graphs import conditional_probabilities, reweighted_adjacency
from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.registry import HEADS, resolve
from tests.core.model.heads.inputs import CHANNELS, SMALL, facts_of, fixed_logits, inputs_of, linear


def make(name: str) -> Any:
    torch.manual_seed(0)
    kind = resolve(HEADS, name, kind="head")
    head = kind(channels=CHANNELS[len(kind.LEVELS)], num_classes=3, options=head_options(name, SMALL[name]))
    head.prepare(facts_of([0, 1, 2]))
    return head.eval()


def test_distances_of_cpcl() -> None:
    head, feature_map = make("cpcl"), torch.randn(2, 6, 3, 3)
    output = head(inputs_of(head, feature_map), need_attention=True)
    f = linear(head.image, feature_map.flatten(2).max(dim=2).values)
    hidden = F.leaky_relu(head.graph @ linear(head.first, head.words), 0.2)
    prototypes = head.graph @ linear(head.second, hidden)
    for k in range(3):
        u = linear(head.fusion, (f * linear(head.word, head.words[k])).tanh())
        both = torch.cat([u * prototypes[k], prototypes[k].expand(2, -1)], dim=1)
        near, far = ((u - linear(layer, both)).square().sum(dim=1).sqrt() for layer in (head.composed, head.decomposed))
        torch.testing.assert_close(output.logits[:, k], far - near)
        torch.testing.assert_close(output.label_features[:, k], u)


def test_graph_convolutions_of_p_gcn() -> None:
    head, feature_map = make("p_gcn"), torch.randn(2, 6, 3, 3)
    graph = reweighted_adjacency(conditional_probabilities(facts_of([0, 1, 2])))
    masks = head.masks(feature_map).sigmoid().flatten(2)
    nodes = masks @ head.projection(feature_map).flatten(2).transpose(1, 2)
    features = graph @ linear(head.second, F.leaky_relu(graph @ linear(head.first, nodes), 0.2))
    output = head(inputs_of(head, feature_map))
    torch.testing.assert_close(output.label_features, features)
    torch.testing.assert_close(output.logits, (features * head.weight).sum(dim=2) + head.bias)


def test_cosines_of_ms_cma() -> None:
    head, feature_map = make("ms_cma"), torch.randn(2, 6, 3, 3)
    inputs = inputs_of(head, feature_map)
    output = head(inputs)
    embeddings = head.embedding(head.words).detach()
    features = []
    for seen, projection in zip(inputs.maps, head.projections, strict=True):
        v = projection(seen).flatten(2).transpose(1, 2)
        z = F.cosine_similarity(v[:, None], embeddings[:, None], dim=-1).clamp(min=0) + 1e-6
        features.append((z[..., None] * v[:, None]).sum(dim=2) / z.sum(dim=2, keepdim=True))
    expected = torch.cat(features, dim=2)
    torch.testing.assert_close(output.label_features, expected)
    scores = [(f * w).sum(dim=2) for f, w in zip(features, head.weight.chunk(2, dim=1), strict=True)]
    torch.testing.assert_close(output.logits, sum(scores) / 2 + head.bias)
    total, count = 0.0, 0
    for i in range(3):
        for j in range(3):
            cosine, target = float(F.cosine_similarity(embeddings[i], embeddings[j], dim=0)), float(head.graph[i, j])
            if i != j and max(cosine, target) >= 0.4:
                total, count = total + (cosine - target) ** 2, count + 1
    assert output.measures["penalty"].tolist() == pytest.approx([total / max(count, 1)] * 2, abs=1e-6)


def test_hypergraph_of_adahgnn() -> None:
    head, feature_map = make("adahgnn"), torch.randn(2, 6, 3, 3)
    shares = head.incidence.sigmoid()
    nodes, edges = shares.sum(dim=1), shares.sum(dim=0)
    graph = torch.zeros(3, 3)
    for i in range(3):
        for j in range(3):
            graph[i, j] = (shares[i] * shares[j] / edges).sum() / (nodes[i] * nodes[j]).sqrt()
    heard = []
    for seen, attend, (first, second) in zip(inputs_of(head, feature_map).maps, head.attention, head.layers, strict=True):
        words, _ = attend(seen.flatten(2).transpose(1, 2), head.words)
        heard.append(graph @ linear(second, (graph @ linear(first, words)).relu()))
    features = linear(head.output, torch.cat([*heard, words], dim=2)).tanh()
    output = head(inputs_of(head, feature_map))
    torch.testing.assert_close(output.label_features, features)
    torch.testing.assert_close(output.logits, (features * head.weight).sum(dim=2) + head.bias)


def test_ccd_removes_the_context_of_the_classes_that_it_sees() -> None:
    head, feature_map, memory = make("debiased"), torch.randn(2, 6, 3, 3), torch.randn(3, 6)
    mean, largest = feature_map.mean(dim=(2, 3)), feature_map.amax(dim=(2, 3))

    def cosines(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        parts = zip(x.chunk(2, dim=1), weight.chunk(2, dim=1), strict=True)
        return torch.as_tensor(
            sum(16 * (a / a.norm(dim=1, keepdim=True)) @ (w / (w.norm(dim=1, keepdim=True) + 1 / 32)).T for a, w in parts)
        )

    first = head(HeadInputs((feature_map,)))
    torch.testing.assert_close(first.logits, cosines(mean, head.first))
    assert torch.equal(head(HeadInputs((feature_map,), prototypes=torch.zeros(3, 6))).logits, first.logits)
    output = head(HeadInputs((feature_map,), prototypes=memory))
    left = largest - linear(head.context, largest).tanh() * (first.logits.softmax(dim=1) @ memory)
    torch.testing.assert_close(output.label_features[:, 1], left)
    torch.testing.assert_close(output.logits, cosines(left, head.second))


def test_sst_adds_the_logits_of_space_and_of_classes() -> None:
    head, feature_map = make("sst"), torch.randn(2, 6, 3, 3)
    output = head(inputs_of(head, feature_map))
    torch.testing.assert_close(output.logits, output.auxiliary["space"] + output.auxiliary["classes"])
    torch.testing.assert_close(output.auxiliary["classes"], (output.label_features * head.weight).sum(dim=2) + head.bias)


@pytest.mark.parametrize("name", ["cpcl", "p_gcn", "ms_cma", "adahgnn", "debiased", "sst"])
def test_golden_output(name: str) -> None:
    torch.testing.assert_close(fixed_logits(make(name)), torch.tensor([GOLDEN[name]]), atol=1e-4, rtol=1e-4)


GOLDEN = {
    "cpcl": [-0.06561, 0.0369, 0.06423],
    "p_gcn": [-0.18404, 0.36687, 0.32847],
    "ms_cma": [-0.13907, -0.08574, 0.36057],
    "adahgnn": [-0.4007, -0.0043, 0.61199],
    "debiased": [-5.75462, 17.42091, 1.87209],
    "sst": [-2.13693, -0.14288, 2.65422],
}
