"""What the option parser finds wrong with a command line, in the form of all other errors: what, and the fix."""

from __future__ import annotations

import difflib
import os
import re
from typing import Any

_SUGGESTIONS = re.compile(r"[.]? *(?:\((?:Possible options|Did you mean):? ([^)]*)\)|Did you mean:? ([^?]*)\?)\.?$")
_KINDS = {"integer": "a whole number", "int": "a whole number", "number": "a number", "float": "a number"}
_CLOSE = 0.7


def usage_words(error: Any) -> tuple[str, str]:
    """(what, fix) of a usage error that typer raised."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "fedspec"
    message = str(error.format_message()).strip()
    help_ = f"See '{command} --help'."
    if type(error).__name__ == "MissingParameter" and context is not None:
        # ITEM... names several, of which one is enough.
        name = str(getattr(error.param, "metavar", None) or error.param.name).rstrip(".")
        return f"{command} needs {_article(name)} {name}.", help_
    if (hint := re.match(r"Invalid value for (.*?(?:\(env var: .*?\))?): (.*)", message, re.DOTALL)) is not None:
        return _invalid(hint[1], hint[2]), help_
    said = _SUGGESTIONS.search(message)
    what = message[: said.start()] if said else message
    if what.startswith("No such command"):
        what = what.replace("No such command", "There is no command")
        help_ = f"'{command}' lists all commands."
    what = what.replace("No such option:", f"{command} has no option").rstrip(".") + "."
    close = _closest(what, said[1] or said[2]) if said else ""
    return what, f"Did you mean {close}? {help_}" if close else help_


def _invalid(hint: str, complaint: str) -> str:
    names = re.findall(r"[-\w.]+", hint.split("(env var")[0])
    name = next((name for name in names if name.startswith("--")), names[0] if names else hint)
    variable = re.search(r"env var: '(\w+)'", hint)
    either = variable[1] if variable and variable[1] in os.environ else name
    kind = next((words for mark, words in _KINDS.items() if f"valid {mark}" in complaint), None)
    return f"{either} must be {kind}." if kind else f"{either}: {complaint.rstrip('.')}."


def _closest(what: str, suggestions: str) -> str:
    wrong = what.rstrip(".").rpartition(" ")[2].strip("'")
    known = [name.strip(" '") for name in suggestions.split(",")]
    return next(iter(difflib.get_close_matches(wrong, known, 1, _CLOSE)), "")


def _article(noun: str) -> str:
    return "an" if noun[0] in "AEIOUaeiou" else "a"
