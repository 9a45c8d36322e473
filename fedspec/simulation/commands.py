"""I16: what a person has asked for is done by whoever has read it, and nobody writes over what a person has written.

Told from the records themselves, without the fold that the production code decides by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedspec.folders import original_of
from fedspec.workqueue.edits import understand
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.records import Attempt, Ctl
from fedspec.workqueue.store import Store

if TYPE_CHECKING:
    from fedspec.workqueue.distributor import WorkDistributor


@dataclass(slots=True)
class Commands:
    """What people have asked for in a schedule: commands as they were journalled, and hashes of what they wrote by hand."""

    given: list[Ctl] = field(default_factory=list)
    edits: set[str] = field(default_factory=set)

    def known(self, store: Store) -> list[Ctl]:
        """Those that have been read there."""
        return [ctl for ctl in self.given if store.length(ctl.worker) > ctl.seq]

    def forbid(self, store: Store, record: Attempt) -> str | None:
        """Why this must not be written by somebody who has read so much, or None."""
        if not self.given:
            return None
        known = [ctl for ctl in self.known(store) if ctl.item == record.item]
        if any(ctl.op == "release" and ctl.attempt >= record.attempt for ctl in known):
            return "it was released"
        return "it was cancelled" if _wish(known) == "cancel" else None

    def ignored(self, store: Store) -> Iterator[str]:
        """Commands that have been read there, and are not what the fold says."""
        known, fold = self.known(store), store.fold
        for ctl in known:
            about = [other for other in known if other.item == ctl.item]
            if not _obeyed(ctl, about, fold):
                yield f"{ctl.op} of {ctl.item or ctl.value}"

    def write_over(self, queue: WorkDistributor, path: Path, held: bytes | None) -> bool:
        """Whether somebody's wish would be lost if the queue for people, or a conflict copy of it, were replaced now."""
        view = queue.workspace.view
        if not self.edits or held is None or path.parent != view.parent or view.name not in (path.name, original_of(path.name)):
            return False
        digest = hashlib.sha256(held).hexdigest()
        fold = queue.store.fold
        return digest in self.edits and digest not in fold.imported and understand(held, fold, queue.store.items).asks


def _wish(known: list[Ctl]) -> str:
    orders = [(ctl.lam, ctl.op == "cancel") for ctl in known if ctl.op in ("cancel", "resume")]
    return "" if not orders else ("cancel" if max(orders)[1] else "resume")


def _obeyed(ctl: Ctl, about: list[Ctl], fold: Fold) -> bool:
    match ctl.op:
        case "retire":
            return fold.retired(f"{ctl.value}-000000")
        case "release":
            return all(key[0] > ctl.attempt for key in fold.live(ctl.item))
        case "retry":
            return all(key[0] > ctl.attempt for key in fold.deaths(ctl.item))
        case "priority":
            last = max((other for other in about if other.op == "priority"), key=lambda other: (other.lam, other.worker))
            return fold.priority(ctl.item) == int(last.value)
        case "cancel" | "resume" if not fold.item(ctl.item).done:
            return (fold.status(ctl.item) == "cancelled") == (_wish(about) == "cancel")
        case _:
            return True
