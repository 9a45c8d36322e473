"""The port through which the members of a gang find each other. What they say to each other then is the job's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedspec.errors import SupersededError


@dataclass(frozen=True, slots=True)
class Found:
    """Where the root waits, and the token that admits to this attempt alone."""

    addresses: tuple[str, ...]
    token: str


class Meeting(Protocol):
    """A gang as one of its members sees it.

    What is announced reaches members as fast as the shared folder carries it. Not promised: that a member whom the folder
    shows as present is still alive; the link has to tell.

    Attributes:
        role: this worker's place, ``root`` for the one that journals for all.
        attempt: a number that grows whenever the gang begins anew.
    """

    role: str
    attempt: int

    def announce(self, addresses: Sequence[str], token: str) -> None:
        """Root: tell the members where to find it."""
        ...

    def found(self) -> Found:
        """What the root has announced in this attempt; a member's job is not opened before that has arrived.

        Raises:
            SupersededError: the root has left since.
        """
        ...

    def members(self) -> Mapping[str, str]:
        """Role -> the worker that has it now."""
        ...

    def lost(self, role: str) -> None:
        """Root: the member with this role was silent on the link; its role is open for another worker."""
        ...


class MemberLostError(SupersededError):
    """The gang cannot go on without the member that was lost; it begins anew from its latest saved round."""
