"""Heads of which the papers leave something open, or that are small: each part by hand, and golden outputs."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sadcl_core.model.classifier import head_options
from sadcl_core.model.graphs import conditional_probabilities, reweighted_adjacency
from sadcl_core.model.heads.interface import HeadInputs
from sadcl_core.model.layers import sine_position_encoding
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


def test_transformers_of_sst() -> None:
    head, feature_map = make("sst"), torch.randn(2, 6, 3, 3)

    def encoded(layer: Any, x: torch.Tensor, position: torch.Tensor | float) -> torch.Tensor:
        asking, (read, write) = x + position, (layer.feedforward.layers[0], layer.feedforward.layers[3])
        weights, biases = layer.attention.in_proj_weight.chunk(3), layer.attention.in_proj_bias.chunk(3)
        q, k, v = (t @ w.T + b for t, w, b in zip((asking, asking, x), weights, biases, strict=True))
        parts = [(a @ b.mT / 2).softmax(dim=-1) @ c for a, b, c in zip(*(t.split(4, dim=2) for t in (q, k, v)), strict=True)]
        x = layer.norm(x + linear(layer.attention.out_proj, torch.cat(parts, dim=2)))
        return torch.as_tensor(layer.feedforward.norm(x + linear(write, linear(read, x).relu())))

    locations = (head.projection.weight[:, :, 0, 0] @ feature_map.flatten(2)).mT + head.projection.bias
    locations = encoded(head.space[0], locations, sine_position_encoding(3, 3, 8))
    maps = (locations @ head.maps.weight[:, :, 0, 0].T + head.maps.bias).relu().mT  # (B, K, 9): already on the grid of 3 x 3
    tokens = encoded(head.classes[0], linear(head.token, maps), 0.0)
    output = head(inputs_of(head, feature_map))
    torch.testing.assert_close(output.auxiliary["space"], linear(head.spatial, locations.amax(dim=1)))
    torch.testing.assert_close(output.label_features, tokens)
    torch.testing.assert_close(output.logits, output.auxiliary["space"] + (tokens * head.weight).sum(dim=2) + head.bias)


@torch.no_grad()
def test_windows_of_rnn_att() -> None:
    head, feature_map = make("rnn_att"), torch.randn(1, 6, 3, 5)
    torch.nn.init.normal_(head.locate.weight, std=0.5)
    projected, window = head.projection(feature_map)[0], torch.tensor([1.0, 1.0, 0.0, 0.0])
    memory, hidden, scores, penalty = torch.zeros(8), torch.zeros(8), [], 0.0
    for step in range(3):  # the whole map, and two windows
        crop = torch.zeros(4, 4, 4)
        for i, j in product(range(4), range(4)):
            x, y = ((-1 + 2 * place / 3) * window[axis] + window[2 + axis] for axis, place in ((0, j), (1, i)))
            column, row = (x + 1) / 2 * 4, (y + 1) / 2 * 2  # of five columns and three rows
            for r, c in product(range(3), range(5)):
                crop[:, i, j] += projected[:, r, c] * max(0, 1 - abs(float(row) - r)) * max(0, 1 - abs(float(column) - c))
        halved = crop.unflatten(2, (2, 2)).unflatten(1, (2, 2)).amax(dim=(2, 4))
        features = linear(head.window, halved.flatten()).relu()
        gates = head.lstm.weight_ih @ features + head.lstm.bias_ih + head.lstm.weight_hh @ hidden + head.lstm.bias_hh
        put, keep, new, show = gates.chunk(4)
        memory = keep.sigmoid() * memory + put.sigmoid() * new.tanh()
        hidden = show.sigmoid() * memory.tanh()
        state = linear(head.state, hidden).relu()
        if step:
            scores.append(head.weight @ state + head.bias)
            anchor = torch.tensor([(0.0, 0.0), (0.5, 0.5)][step - 1])
            penalty += sum(max(0.0, abs(float(s)) - 0.5) ** 2 + 0.1 * max(0.0, 0.1 - float(s)) for s in window[:2]) / 2
            penalty += 0.01 * 0.5 * float((window[2:] - anchor).square().sum()) / 2
        window = torch.tensor([1.0, 1.0, 0.0, 0.0]) + linear(head.locate, state)
    output = head(inputs_of(head, feature_map))
    torch.testing.assert_close(output.logits[0], torch.stack(scores).max(dim=0).values, atol=1e-4, rtol=1e-4)
    assert output.measures["penalty"].tolist() == pytest.approx([penalty], rel=1e-4)


@pytest.mark.parametrize("name", ["cpcl", "p_gcn", "ms_cma", "adahgnn", "debiased", "sst", "rnn_att"])
def test_golden_output(name: str) -> None:
    torch.testing.assert_close(fixed_logits(make(name)), torch.tensor([GOLDEN[name]]), atol=1e-4, rtol=1e-4)


GOLDEN = {
    "cpcl": [-0.06561, 0.0369, 0.06423],
    "p_gcn": [-0.18404, 0.36687, 0.32847],
    "ms_cma": [-0.13907, -0.08574, 0.36057],
    "adahgnn": [-0.4007, -0.0043, 0.61199],
    "debiased": [-5.75462, 17.42091, 1.87209],
    "rnn_att": [-0.36056, -0.1291, 0.59587],
    "sst": [-2.13693, -0.14288, 2.65422],
}
