from __future__ import annotations

import pytest
import torch

from sadcl_core.model.memory_bank import BatchBank, MemoryBank, confident


def features(count: int, *, start: int = 0) -> torch.Tensor:
    """Image i has the feature (i, i) for both classes."""
    return torch.arange(start, start + count, dtype=torch.float32)[:, None, None].expand(count, 2, 2)


def write(bank: MemoryBank, count: int, *, start: int = 0, score: float = 0.9) -> None:
    targets = torch.zeros(count, 2)
    targets[:, 0] = 1
    bank.write(*confident(features(count, start=start), targets, torch.full((count, 2), score), min_score=0.8))


def test_starts_from_prototypes() -> None:
    bank = MemoryBank(slots=3, num_classes=2, width=2)
    bank.start_from(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert bank.filled.tolist() == [[True, True], [False, False], [False, False]]
    assert bank.features[0].tolist() == [[1, 2], [3, 4]]


def test_is_a_ring_per_class_at_any_batch_size() -> None:
    bank = MemoryBank(slots=3, num_classes=2, width=2)
    bank.start_from(torch.full((2, 2), -1.0))
    write(bank, 1, start=10)
    assert bank.features[:, 0, 0].tolist() == [-1, 10, 0]
    assert bank.filled.tolist() == [[True, True], [True, False], [False, False]]
    write(bank, 2, start=20)
    assert bank.features[:, 0, 0].tolist() == [21, 10, 20]
    assert bank.features[0, 1, 0] == -1  # the other class was never active


def test_of_more_than_it_holds_the_last_stay() -> None:
    bank = MemoryBank(slots=3, num_classes=2, width=2)
    write(bank, 7)
    assert sorted(bank.features[:, 0, 0].tolist()) == [4, 5, 6]
    write(bank, 1, start=100)
    assert sorted(bank.features[:, 0, 0].tolist()) == [5, 6, 100]


def test_one_by_one_is_the_same_as_together() -> None:
    together, alone = (MemoryBank(slots=3, num_classes=2, width=2) for _ in range(2))
    write(together, 8)
    for i in range(8):
        write(alone, 1, start=i)
    assert torch.equal(together.features, alone.features)
    assert torch.equal(together.cursor, alone.cursor)


def test_only_confident_active_labels_are_written() -> None:
    bank = MemoryBank(slots=3, num_classes=2, width=2)
    write(bank, 2, score=0.8)  # not above
    bank.write(*confident(features(3), torch.tensor([[0, -1]] * 3), torch.ones(3, 2), min_score=0.8))
    assert not bank.filled.any()


def test_is_detached_and_saved_with_its_state() -> None:
    bank = MemoryBank(slots=2, num_classes=2, width=2)
    bank.write(*confident(features(1).clone().requires_grad_(), torch.ones(1, 2), torch.ones(1, 2), min_score=0.5))
    assert not bank.features.requires_grad
    restored = MemoryBank(slots=2, num_classes=2, width=2)
    restored.load_state_dict(bank.state_dict())
    assert torch.equal(restored.filled, bank.filled)
    assert torch.equal(restored.cursor, bank.cursor)


def test_refuses_no_slots() -> None:
    with pytest.raises(ValueError, match="positive"):
        MemoryBank(slots=0, num_classes=2, width=2)


def test_of_the_published_recipe_has_a_slot_for_each_image_of_a_batch() -> None:
    bank = BatchBank(slots=4, num_classes=2, width=2)
    bank.start_from(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert bank.features.tolist() == [[[1, 2], [3, 4]]] * 4
    scores = torch.tensor([[0.9, 0.9], [0.7, 0.9], [0.9, 0.9]])
    targets = torch.tensor([[1, 0], [1, 1], [-1, 0]])
    bank.write(*confident(features(3, start=10), targets, scores, min_score=0.8))
    assert bank.features[:, 0, 0].tolist() == [10, 1, 1, 1]
    assert bank.features[:, 1, 0].tolist() == [3, 11, 3, 3]
    counted = bank.contrasted(targets == 1, first=1)  # of a micro-batch that begins with the second image
    assert counted.nonzero().tolist() == [[1, 0], [2, 0], [2, 1]]
