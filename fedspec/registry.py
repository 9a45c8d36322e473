"""What a registry line holds: where an implementation lives and how people call it.

A registry is a plain dict ``name: Entry`` in a folder's ``__init__.py``. Reading one never imports the implementation,
so that plans are validated, help is printed and figures are labelled without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One line of a registry.

    Args:
        target: ``"package.module:Name"`` of the implementation.
        label: the name people read in tables and figures.
        traits: what it can do and needs, in words that its registry explains.
    """

    target: str
    label: str
    traits: frozenset[str] = frozenset()

    def load(self) -> Any:
        """Import the implementation and return it."""
        module, _, name = self.target.partition(":")
        return getattr(import_module(module), name)
