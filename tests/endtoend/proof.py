"""Long proofs that may be interrupted: what each run found is kept, and the next start goes on at the first run not yet done.

The file lies in the folder that ``LONG_PROOFS`` names, else in pytest's cache. It belongs to one state of the code: another
state begins anew, since what was proven of the old one says nothing about it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER_VARIABLE = "LONG_PROOFS"


class LongProof:
    """The runs of one proof, each with what it counted.

    Args:
        test: path of the test file, after which the kept file is named.
        runs: how many there are; the proof is complete with the last one, and begins anew then.
    """

    def __init__(self, config: pytest.Config, test: str, runs: int) -> None:
        named = os.environ.get(FOLDER_VARIABLE)
        folder = Path(named) if named else config.cache.mkdir("proofs")  # type: ignore[union-attr]
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.runs = folder / f"{Path(test).stem.removeprefix('test_')}.json", runs
        self.code = fingerprint(Path(test))
        self.done: list[dict[str, int]] = self._load()

    def go_on(self, run: Callable[[int], Mapping[str, int]], say: Callable[[str], None]) -> Counter[str]:
        """Do the runs that are left, by their numbers from 0. A run that raises is the first one of the next start.

        Returns:
            What all runs together counted.
        """
        if self.done:
            say(f"going on after {len(self.done)} of {self.runs} runs ({self.path})")
        while len(self.done) < self.runs:
            number = len(self.done)
            counted = dict(run(number))
            self.done.append(counted)
            self._save()
            say(f"run {number + 1} of {self.runs}: {spelled(counted)}")
        total: Counter[str] = Counter()
        for counted in self.done:
            total.update(counted)
        say(f"{self.runs} runs: {spelled(total)}")
        self.path.replace(self.path.with_suffix(".complete.json"))
        return total

    def _load(self) -> list[dict[str, int]]:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            done = kept["done"] if kept["code"] == self.code else []
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return list(done)[: self.runs]

    def _save(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"code": self.code, "done": self.done}, indent=1), encoding="utf-8")
        temporary.replace(self.path)


def fingerprint(test: Path) -> str:
    """What the code is: the package, the test, and what the tests beside it share."""
    digest = hashlib.sha256()
    shared = [path for path in test.parent.glob("*.py") if not path.name.startswith("test_")]
    for path in sorted([*(ROOT / "fedspec").rglob("*.py"), *shared, test]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def spelled(counted: Mapping[str, int]) -> str:
    """``12 kills, 3 stops``."""
    return ", ".join(f"{number} {name}" for name, number in counted.items())
