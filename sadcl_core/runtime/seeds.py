"""Seeds of random numbers that depend on nothing but what the numbers are for.

Every draw of a training run starts from a seed made of the run's seed and of where it is drawn: stage, epoch, step, image.
So a run that is stopped anywhere and resumed draws what it would have drawn, whatever processes read the images, and no state
of a generator has to be kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_of(*purpose: int | str) -> int:
    """Return a seed in 0 .. 2^63 - 1 for a draw, such as the order of images in an epoch.

    Example:
        >>> seed_of(1, "order", 3) == seed_of(1, "order", 3), seed_of(1, "order", 3) == seed_of(1, "order", 4)
        (True, False)
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in purpose)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let torch draw from a seed on the CPU in the block, and continue afterwards as if nothing had been drawn."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
    try:
        yield
    finally:
        torch.set_rng_state(before)
