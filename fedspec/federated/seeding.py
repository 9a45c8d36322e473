"""Random numbers that depend on what they are for, and on nothing that ran before.

Each use names itself by a tuple such as ``("shuffle", seed, round, client)``, so that a takeover repeats the very same round.
All streams are drawn on the CPU, so that every kind of device sees the same batches and the same fresh directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import torch


def seed_of(*purpose: str | int) -> int:
    """A 32-bit seed for ``purpose``: torch's CPU generator (a Mersenne twister) takes no more bits."""
    return int.from_bytes(sha256(repr(purpose).encode()).digest()[:4], "big")


def generator(*purpose: str | int) -> torch.Generator:
    """A CPU generator for ``purpose``."""
    return torch.Generator().manual_seed(seed_of(*purpose))


@contextmanager
def global_seed(device: torch.device, *purpose: str | int) -> Iterator[None]:
    """Seed the global generators of the CPU and of ``device`` for ``purpose``, and put them back afterwards.

    For what draws from them by itself: a module's initialisation, dropout.
    """
    accelerator = None if device.type == "cpu" else torch.get_device_module(device)
    before = torch.get_rng_state()
    before_accelerator = None if accelerator is None else accelerator.get_rng_state()
    # `torch.manual_seed` seeds every kind of device there could be, and formats a stack trace for each that there is not.
    torch.default_generator.manual_seed(seed_of(*purpose))
    if accelerator is not None:
        accelerator.manual_seed(seed_of(*purpose))
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if accelerator is not None:
            accelerator.set_rng_state(before_accelerator)
