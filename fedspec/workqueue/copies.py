"""Conflict copies: which names sync clients give them, and of which of our files one is a copy.

Pure. A name alone is never a reason to delete anything: what is in the file must be ours as well.
"""

from __future__ import annotations

import re

_SHAPES = tuple(
    re.compile(rf"(?P<stem>.+?){mark}(?P<suffix>\.[A-Za-z0-9]+)")
    for mark in (
        r"\.sync-conflict-\d{8}-\d{6}-[A-Z0-9]{7}",  # Syncthing
        # Dropbox, Nextcloud and others, in any language: "(Ann's conflicted copy 2026-01-31)", "(Konfliktkopie von ...)".
        r" \([^()]*\d{4}-\d{2}-\d{2}[^()]*\)",
        # OneDrive appends the computer's name. None of our names has capitals.
        r"-[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*",
        r" (?:[2-9]|[1-9]\d{1,3})",  # iCloud
    )
)


def original_of(name: str) -> str | None:
    """The name of the file that ``name`` is a conflict copy of, or of a copy of one; None if it looks like none."""
    original = name
    while match := next((m for shape in _SHAPES if (m := shape.fullmatch(original))), None):
        original = match["stem"] + match["suffix"]
    return original if original != name else None
