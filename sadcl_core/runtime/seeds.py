"""Random numbers that depend on nothing but what they are for.

Every draw of a training run starts from a seed made of the run's seed and of the place it is drawn at: stage, epoch, step,
image. So a run that is stopped anywhere and resumed draws what it would have drawn, whatever processes read the images, and
no state of a generator has to be kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_of(*place: int | str) -> int:
    """A seed in 0 .. 2^63 - 1 for a place, such as `seed_of(1, "stage", 3, "order")`; other places have others."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in place)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let torch draw from a seed on the CPU inside of the block, and go on afterwards as if nothing had been drawn."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
    try:
        yield
    finally:
        torch.set_rng_state(before)
