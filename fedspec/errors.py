"""Every error a person can meet: what happened, what to do about it, and the exit code it ends with.

A module that fails raises one of these; only the command line prints them.
"""

from __future__ import annotations

import textwrap


def brief(error: BaseException, most: int = 120) -> str:
    """What an exception of somebody else's says, as the part of a sentence: its first line, or its class, cut to ``most``."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return textwrap.shorten(line, most, placeholder="\u2026").rstrip(".")


class FedspecError(Exception):
    """Something went wrong that a person can act on.

    Args:
        what: one sentence that says what happened, with the value and the place.
        fix: one sentence that says what to do next.
    """

    exit_code = 3

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what} ({self.fix})"


class UsageError(FedspecError):
    """A flag, a plan file or an argument is wrong; nothing was written."""

    exit_code = 2


class SetupError(FedspecError):
    """This machine or the shared folder is not ready."""


class QueueMissingError(SetupError):
    """There is no queue in the shared folder, or it has not synced yet."""


class FolderError(SetupError):
    """The shared folder refused: read-only, full, held by another program, or gone.

    ``passing``: it may be otherwise in a while without anybody doing anything, or as soon as somebody makes room.
    """

    def __init__(self, what: str, fix: str, *, passing: bool = True) -> None:
        super().__init__(what, fix)
        self.passing = passing


class TakenError(FolderError):
    """Something that is none of ours has a file's or a folder's place, or a link leads from there out of the shared folder."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix, passing=False)


class DamagedError(FedspecError):
    """A file's bytes are not what their writer wrote."""


class ExperimentError(FedspecError):
    """An experiment cannot run as configured, on any machine, however often it is tried."""

    exit_code = 1


class CapabilityError(FedspecError):
    """This machine cannot run the item, another one might (a missing device, memory, an extra)."""


class SupersededError(FedspecError):
    """Another worker owns the item now; what this worker was doing for it is dropped."""
