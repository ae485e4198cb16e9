from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sadcl_core.data.formats import coco
from sadcl_core.data.formats.source import Source
from sadcl_core.model.graphs import (
    DynamicGraph,
    GatedGraph,
    SingleBatchNorm,
    WordAttention,
    conditional_probabilities,
    reweighted_adjacency,
)
from sadcl_core.model.label_facts import LabelFacts, label_facts
from tests.core.model.heads.inputs import linear

COCO = Path(__file__).parents[3] / "data" / "coco" / "annotations" / "instances_train2014.json"


def test_conditional_probabilities_leave_out_images_where_the_label_is_unknown() -> None:
    together = torch.tensor([[4, 2, 0], [2, 3, 0], [0, 0, 0]])
    known = torch.tensor([[4, 3, 4], [3, 3, 3], [0, 0, 0]])
    facts = LabelFacts(("a", "b", "c"), together.diagonal(), together, known)
    expected = torch.tensor([[0, 2 / 3, 0], [2 / 3, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(conditional_probabilities(facts), expected)


def test_adjacency_by_hand() -> None:
    """Each entry as the formula has it: columns are normalised, the sum is transposed."""
    torch.manual_seed(0)
    p = torch.rand(5, 5).fill_diagonal_(0)
    edges = [[float(p[i, j] >= 0.4 and i != j) for j in range(5)] for i in range(5)]
    columns = [sum(edges[i][j] for i in range(5)) for j in range(5)]
    a = [[0.8 if i == j else 0.2 * edges[i][j] / max(columns[j], 1) for j in range(5)] for i in range(5)]
    degree = [sum(row) ** -0.5 for row in a]
    expected = [[degree[i] * a[j][i] * degree[j] for j in range(5)] for i in range(5)]
    torch.testing.assert_close(reweighted_adjacency(p), torch.tensor(expected), atol=1e-5, rtol=1e-5)


def weights_from_others(adjacency: Tensor) -> Tensor:
    """What each class (K,) hears from others."""
    return adjacency.sum(dim=1) - adjacency.diagonal()


def test_as_many_pairs_as_coco_has() -> None:
    """111 pairs, of which 55 lead to `person`, from 65 classes to 23: there `person` hears 0.244, and a class 0.060."""
    p = torch.zeros(80, 80)
    p[1:56, 0] = 0.6
    for number, source in enumerate((*range(56, 66), *range(1, 47))):  # two to three lead to each of 22 others
        p[source, 1 + (number + 30) % 22] = 0.5
    assert [int(one) for one in ((p > 0).sum(), (p > 0).any(dim=1).sum(), (p > 0).any(dim=0).sum())] == [111, 65, 23]
    heard = weights_from_others(reweighted_adjacency(p))
    assert heard[0].item() == pytest.approx(0.244, abs=0.006)
    assert heard.mean().item() == pytest.approx(0.060, abs=0.007)  # with sums over rows, and not transposed, about 0.16
    assert not heard[56:].any()


@pytest.mark.skipif(not COCO.is_file(), reason="no COCO 2014 in data/coco")
def test_the_graph_of_coco() -> None:
    source = Source("coco2014", COCO.parents[1], {"train": COCO}, labels_only=True)
    facts = label_facts(coco.read(source).split("train"))
    assert (int(facts.active.sum()), int(facts.together.sum() - facts.active.sum())) == (241_035, 741_362)
    p = conditional_probabilities(facts)
    edges = p >= 0.4
    person = facts.names.index("person")
    assert [int(one) for one in (edges.sum(), edges[:, person].sum(), (~edges.any(dim=1)).sum())] == [111, 55, 15]
    assert int(edges.any(dim=0).sum()) == 23
    heard = weights_from_others(reweighted_adjacency(p))
    assert heard[person].item() == pytest.approx(0.244, abs=5e-4)
    assert heard.mean().item() == pytest.approx(0.060, abs=5e-4)


def test_the_factor_of_the_published_program_cancels() -> None:
    """Theirs is 0.25 B / (sum + 1e-6) + I."""
    torch.manual_seed(1)
    p = torch.rand(6, 6).fill_diagonal_(0)
    edges = (p >= 0.4).float()
    theirs = 0.25 * edges / (edges.sum(dim=0, keepdim=True) + 1e-6) + torch.eye(6)
    degree = theirs.sum(dim=1).rsqrt()
    torch.testing.assert_close(reweighted_adjacency(p), degree[:, None] * theirs.T * degree)


@pytest.mark.parametrize("trained", [True, False])
def test_attention_of_words_is_the_published_one(trained: bool) -> None:
    """u . (W3 tanh(W1 x * W2 e) + b3) + c, softmax over the locations; in parts and as a whole, with the same gradients."""
    torch.manual_seed(0)
    attention, locations, words = WordAttention(width=4, inner=1024, word_width=3), torch.randn(2, 900, 4), torch.randn(9, 3)
    with torch.set_grad_enabled(trained):
        features, shares = attention(locations, words)  # more than fits into a part
        x, w = linear(attention.location, locations), linear(attention.word, words)
        for k in range(9):
            score = (x * w[k]).tanh() @ attention.score.weight[0] + 7.0
            expected = score.softmax(dim=1)
            torch.testing.assert_close(shares[:, k], expected)
            torch.testing.assert_close(features[:, k], (expected[..., None] * locations).sum(dim=1))
    if trained:
        (gradient,) = torch.autograd.grad(features.square().sum(), attention.score.weight)
        whole = (x[:, None] * w[:, None]).tanh() @ attention.score.weight[0]
        (expected,) = torch.autograd.grad((whole.softmax(-1) @ locations).square().sum(), attention.score.weight)
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)


def test_gated_graph_by_hand() -> None:
    torch.manual_seed(0)
    network, nodes, graph = GatedGraph(width=4, rounds=2), torch.randn(1, 3, 4), torch.rand(3, 3)
    h = nodes[0]
    for _ in range(2):
        after = []
        for j in range(3):
            outgoing = sum(graph[j, i] * h[i] for i in range(3))
            incoming = sum(graph[i, j] * h[i] for i in range(3))
            heard = linear(network.heard, torch.cat([torch.as_tensor(outgoing), torch.as_tensor(incoming)]))
            gates = linear(network.gates, h[j])
            z, r = (heard[:4] + gates[:4]).sigmoid(), (heard[4:8] + gates[4:]).sigmoid()
            candidate = (heard[8:] + linear(network.candidate, r * h[j])).tanh()
            after.append((1 - z) * h[j] + z * candidate)
        h = torch.stack(after)
    torch.testing.assert_close(network(nodes, graph)[0], h)


def test_dynamic_graph_by_hand() -> None:
    torch.manual_seed(0)
    network, nodes, image = DynamicGraph(width=4, num_classes=3, norm="none"), torch.randn(2, 3, 4), torch.randn(2, 4)
    leaky = torch.nn.functional.leaky_relu
    for b in range(2):
        g = leaky(linear(network.image, image[b]), 0.2)
        a = [[(network.weight[i] @ torch.cat([g, nodes[b, j]]) + network.bias[i]).sigmoid() for j in range(3)] for i in range(3)]
        for j in range(3):
            heard = sum(nodes[b, i] * a[i][j] for i in range(3))
            expected = leaky(linear(network.layer, leaky(torch.as_tensor(heard), 0.2)), 0.2)
            torch.testing.assert_close(network(nodes, image)[b, j], expected)


def test_batchnorm_takes_a_single_image_by_what_it_remembers() -> None:
    norm, plain = SingleBatchNorm(4), torch.nn.BatchNorm1d(4)
    batch, single = torch.randn(8, 4), torch.randn(1, 4)
    torch.testing.assert_close(norm(batch), plain(batch))
    torch.testing.assert_close(norm(single), plain.eval()(single))
    assert norm.num_batches_tracked == 1
