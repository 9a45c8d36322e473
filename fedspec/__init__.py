"""Federated-learning experiments on the machines you have, through one shared folder.

The public names are `WorkDistributor`, `CheckpointManager` and `load_results`; each is imported when first used, so that
``fedspec --help`` starts without torch and pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedspec.checkpoints import CheckpointManager
    from fedspec.results import load_results
    from fedspec.workqueue.distributor import WorkDistributor

__version__ = "0.1.0"
__all__ = ["CheckpointManager", "WorkDistributor", "__version__", "load_results"]

_HOMES = {
    "WorkDistributor": "fedspec.workqueue.distributor",
    "CheckpointManager": "fedspec.checkpoints",
    "load_results": "fedspec.results",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedspec' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
