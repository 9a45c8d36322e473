"""What this machine can compute on: which devices it has, which one to use, their memory, and how people call them.

Importing this module is free; torch is imported by the first question that needs it.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from fedspec.errors import CapabilityError, UsageError

if TYPE_CHECKING:
    import torch

# The best first: this order is what "any" means.
KINDS = ("cuda", "mps", "cpu")
_REMEDIES = {
    "cuda": "Run it on a machine with an NVIDIA card and a CUDA build of torch, or set device = 'any'.",
    "mps": "Run it on a Mac with Apple silicon, or set device = 'any'.",
}


class Memory(NamedTuple):
    """Memory of one device, in bytes. On MPS and CPU it is shared with everything else that runs."""

    total_bytes: int
    free_bytes: int


@cache
def capabilities() -> frozenset[str]:
    """The kinds of device that this machine has, out of `KINDS`; always with ``cpu``. Computed once per process."""
    import torch

    found = {"cpu"}
    if torch.cuda.is_available():
        found.add("cuda")
    if torch.backends.mps.is_available():
        found.add("mps")
    return frozenset(found)


def resolve(request: str = "any") -> torch.device:
    """The device that a request means on this machine: ``any`` takes the best one that there is.

    Raises:
        UsageError: the request is none of ``any``, ``cuda``, ``mps``, ``cpu``.
        CapabilityError: this machine has no such device.
    """
    import torch

    if request != "any" and request not in KINDS:
        raise UsageError(f"There is no kind of device called {request!r}.", f"Choose one of any, {', '.join(KINDS)}.")
    have = capabilities()
    if request == "any":
        return torch.device(next(kind for kind in KINDS if kind in have))
    if request not in have:
        raise CapabilityError(f"This machine has no {request} device (it has {', '.join(sorted(have))}).", _REMEDIES[request])
    return torch.device(request)


def memory(device: torch.device) -> Memory:
    """Total and free memory of ``device``, in bytes."""
    import psutil
    import torch

    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Memory(total, free)
    if device.type == "mps":
        total = torch.mps.recommended_max_memory()
        return Memory(total, max(0, total - torch.mps.driver_allocated_memory()))
    ram = psutil.virtual_memory()
    return Memory(ram.total, ram.available)


def describe(device: torch.device | None = None) -> str:
    """A device (the best one where none is given) in words: ``NVIDIA H200 (140 GiB)``, ``CPU x86_64, 8 cores (16 GiB)``."""
    import psutil
    import torch

    device = resolve() if device is None else device
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "mps":
        name = "Apple GPU"
    else:
        name = f"CPU {platform.machine()}, {psutil.cpu_count(logical=False) or psutil.cpu_count() or 1} cores"
    return f"{name} ({memory(device).total_bytes / 2**30:.0f} GiB)"
