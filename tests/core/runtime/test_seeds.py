from __future__ import annotations

import torch

from sadcl_core.runtime.seeds import drawing_from, seed_of


def test_other_places_have_other_seeds() -> None:
    places: list[tuple[int | str, ...]] = [
        (1,),
        (2,),
        (1, 1),
        ("1",),
        (1, "1"),
        ("1", 1),
        (11,),
        (1, 1, 1),
        ("a", "b"),
        ("ab",),
        ("a\x1fb",),
    ]
    seeds = [seed_of(*place) for place in places]
    assert len(set(seeds)) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(7, "order", 3) == 3894881327134772577  # for ever: a run is resumed by a later version


def test_drawing_from_a_seed_leaves_no_trace() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with drawing_from(5):
        first = torch.rand(2)
    with drawing_from(5):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.rand(4), expected)
