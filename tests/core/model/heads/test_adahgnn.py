from __future__ import annotations

import torch

from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.adahgnn import AdaHGNNHead
from tests.core.model.heads.inputs import facts_of


def make_head(**options: int) -> AdaHGNNHead:
    torch.manual_seed(0)
    return AdaHGNNHead(channels=(4, 6), num_classes=3, options=head_options("adahgnn", {"width": 8, "inner": 4, **options}))


def test_classes_start_in_the_hyperedges_as_their_words_and_those_carried_over_stay() -> None:
    head, facts = make_head(), facts_of([0, 1, 2])
    assert facts.vectors is not None
    with torch.no_grad():
        head.incidence[1] = 2.0  # of a model before
    head.prepare(facts)
    expected = facts.vectors.clone()
    expected[1] = 2.0
    assert torch.equal(head.incidence, expected)
    with torch.no_grad():
        head.incidence.add_(1)
    head.prepare(facts)
    assert torch.equal(head.incidence, expected + 1)


def test_any_number_of_hyperedges_starts_at_random_on_the_scale_of_words() -> None:
    head = make_head(edges=5000)
    drawn = head.incidence.clone()
    head.prepare(facts_of([0, 1, 2]))
    assert torch.equal(head.incidence, drawn)
    torch.testing.assert_close(drawn.std(), torch.tensor(6.5 / 300**0.5), atol=0.01, rtol=0)
