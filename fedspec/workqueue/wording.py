"""What is said of an item, in words: pure functions of names and numbers, so that each sentence has a test."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime

from fedspec.clock import moment
from fedspec.errors import SupersededError
from fedspec.workqueue.rules import Blocked

MAX_REASON = 300
MAX_DAYS = 9999
_WORKER = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{6}\b")
# Control characters, surrogates, line separators, and what turns the direction of writing or is not seen.
_UNREADABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Names come from peers, and commands are pasted.
_PLAIN = re.compile(r"\w[\w .-]*")
MAX_SHOWN = 500
MAX_TIME = 20


def one_line(text: str, limit: int = MAX_SHOWN) -> str:
    """What a peer or a file name says, as a part of our own sentence: one line, at most ``limit`` characters, nothing that a
    terminal would obey."""
    return readable(text[: limit + 1].replace("\n", " "), limit)


def readable(text: str, limit: int | None = None) -> str:
    """The text without what a terminal would obey; line feeds stay."""
    if not text.isprintable():
        kept = (c if c == "\n" or unicodedata.category(c) not in _UNREADABLE else "\ufffd" for c in text.replace("\t", " "))
        text = "".join(kept)
    return text if limit is None or len(text) <= limit else _cut(text, limit)


def _cut(text: str, limit: int) -> str:
    """The text's first ``limit`` characters, an ellipsis the last of them: up to the end of a word, unless that loses much."""
    end = text.rfind(" ", limit // 2, limit)
    return f"{text[: end if end > 0 else limit - 1].rstrip(' ,;:.')}\u2026"


def clause(reason: str) -> str:
    """What a peer gives as a reason, as a part of our own sentence, without the full stop."""
    return one_line(" ".join(reason[: 2 * MAX_SHOWN].split()).rstrip("."), MAX_REASON)


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 round``, ``20 rounds``, ``2 copies``."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def times(number: int) -> str:
    """``once``, ``3 times``."""
    return "once" if number == 1 else f"{number} times"


def clock_face(seconds: float) -> str:
    """``0:12``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def elapsed_s(wall: str, now: datetime) -> float | None:
    """Seconds since a wall-clock time that some machine wrote, at least 0; None if it wrote no time."""
    then = moment(wall)
    return None if then is None else max(0.0, (now - then).total_seconds())


def in_words(seconds: float) -> str:
    """``12 s``, ``9 min``, ``1 h 30 min``, ``3 d``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(min(seconds, MAX_DAYS * 86400.0) / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    return f"{minutes // (24 * 60)} d"


def listed(names: Sequence[str], shown: int = 3) -> str:
    """``Mac``, ``Mac and Windows``, ``A, B, C and 4 more``."""
    some = [*names[:shown], *([f"{len(names) - shown} more"] if len(names) > shown else [])]
    return " and ".join([", ".join(some[:-1]), some[-1]] if len(some) > 1 else some)


def sentence(clause: str) -> str:
    """The clause with a capital letter; a name keeps its own."""
    return clause[:1].upper() + clause[1:]


def told(reason: str, name: Callable[[str], str]) -> str:
    """A journalled reason in one short line, with machines' names in place of workers' ids."""
    return clause(_WORKER.sub(lambda found: name(found[0]), reason[: 2 * MAX_SHOWN]))


def local_time(wall: str, now: datetime) -> str:
    """A record's wall time as the reader's clock has it: ``09:41``, with the date if that was another day."""
    written = moment(wall)
    if written is None or not 1970 < written.year < 9999:  # at the calendar's ends no time zone can be told
        return one_line(wall, MAX_TIME)
    then = written.astimezone()
    return then.strftime("%H:%M" if then.date() == now.astimezone().date() else "%Y-%m-%d %H:%M")


def typed(name: str, machine_id: str) -> str:
    """A machine as it is typed on a command line: by its name, or by its id if a shell would read more into the name."""
    if not _PLAIN.fullmatch(name):
        return machine_id
    return f'"{name}"' if " " in name else name


def resuming(name: str, machine_id: str) -> str:
    """The command that takes back pause or drain of a machine, or with an id of "" of all."""
    return "fedspec queue resume" + (f" --machine {typed(name, machine_id)}" if machine_id else "")


def waiting(blocked: Sequence[Blocked], name: Callable[[str], str]) -> str:
    """Why there is nothing to claim now; ``name`` tells the machine of a worker."""
    first = blocked[0]
    more = f"; {count(len(blocked) - 1, 'other item')} cannot start either" if len(blocked) > 1 else ""
    match first.why:
        case "running":
            what = f"{name(first.owner[1]) if first.owner else 'nobody'} is on {first.item.exp}"
        case "needs":
            what = f"{first.item.exp} needs {one_line(first.detail)}, which this machine does not have"
        case "refused":
            what = f"{first.item.exp} could not run on this machine: {clause(first.detail)}"
        case "members":
            what = f"{first.item.exp} needs more machines at work than there are"
        case "full":
            what = f"{first.item.exp} is run by others"
        case "paused":
            go_on = resuming(name(first.detail) if first.detail else "", first.detail)
            return f"Waiting: this machine is paused, with {count(len(blocked), 'item')} left. To go on: {go_on}"
        case "back-off":
            what = f"{first.item.exp} failed and is tried again later"
        case _:
            what = f"this machine slept; {first.item.exp} waits until the folder has settled"
    return f"Waiting: {what}{more}."


def taking_over(exp: str, lost: str, start: int, journalled: int, rounds: int) -> str:
    """Carrying on after round ``start`` what a dead machine had brought to round ``journalled``, by its own word."""
    if not journalled:
        return f"Taking over {exp} from {lost}, which had saved no round: starting from round 1"
    at = f"Taking over {exp} from {lost} at round {start + 1} of {rounds}"
    if start >= rounds:
        return f"Taking over {exp} from {lost}: all {rounds} rounds are saved; nothing was lost"
    if start == journalled:
        return f"{at}; nothing was lost"
    return f"{at}; of the {count(journalled, 'round')} that were saved, no later one can be read here"


def unusable(round_: int, why: str, intact: int | None) -> str:
    """A saved round that cannot be used, and the round from which the run goes on, None if there is no other."""
    what = f"The checkpoint of round {round_} {why}"
    there = "no other round is saved" if intact is None else f"round {intact} is intact"
    next_ = "Starting from round 1." if intact is None else f"Continuing from round {intact}."
    kept = " The bad file is kept in quarantine." if "damaged" in why else ""
    return f"error: {what}; {there}.\n  fix: Nothing to do. {next_}{kept}"


def failed(exp: str, fault: str, reason: str, fix: str = "") -> str:
    """An attempt that ended in an error, and whether it is tried again; ``fix``: what would let this machine run it."""
    fixes = {
        "transient": "Nothing to do. It is tried again later.",
        "code": f"Nothing yet: it is tried up to 3 times. The traceback: fedspec progress {exp}",
        "capability": f"{fix} Then: fedspec queue retry {exp}. Or leave it to another machine."
        if fix
        else "Nothing to do here. Another machine may run it.",
    }
    fix = fixes.get(fault, f"It is not tried again. More: fedspec progress {exp}")
    return f"error: {exp} failed: {one_line(reason).rstrip('.')}.\n  fix: {fix}"


def dropped(error: SupersededError, exp: str, me: str, *, done_by: str, rival: str, round_: int) -> str:
    """Why this machine drops an item it had, and what is lost: nothing.

    Args:
        me: this machine's name; ``done_by`` and ``rival`` those of who finished or has the item, "" if nobody.
        round_: the round that was being trained, 0 if none was.
    """
    if done_by:
        return f"{exp} is already done by {done_by}. Nothing is lost; this {me} takes the next item."
    if not rival or "taken over" not in error.what:
        return one_line(f"{error.what} {error.fix}")
    who = rival if rival != me else f"another worker of this {me}"
    if not round_:
        return f"{exp} was claimed by {who} first. This {me} takes the next item."
    return (
        f"error: {exp} was taken over by {who} while this {me} slept or was offline.\n"
        f"  fix: Nothing is lost. This {me} dropped its copy of round {round_} and takes the next item."
    )
