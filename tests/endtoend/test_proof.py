"""A long proof that is interrupted goes on at the first run not yet done, and says nothing about other code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from proof import FOLDER_VARIABLE, LongProof


class InterruptedRunError(Exception):
    """Stands for whatever ends a run before its end."""


@pytest.fixture
def proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> Callable[[], LongProof]:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))
    (tmp_path / "test_it.py").write_text("", encoding="utf-8")
    return lambda: LongProof(pytestconfig, str(tmp_path / "test_it.py"), 4)


def runs_until(last: int) -> tuple[list[int], Callable[[int], dict[str, int]]]:
    """The numbers of the runs done, and a run that is interrupted at ``last``."""
    done: list[int] = []

    def run(number: int) -> dict[str, int]:
        if number == last:
            raise InterruptedRunError
        done.append(number)
        return {"kills": number}

    return done, run


def test_an_interrupted_proof_goes_on_and_sums_up_all_of_its_runs(proof: Callable[[], LongProof]):
    first, run = runs_until(2)
    with pytest.raises(InterruptedRunError):
        proof().go_on(run, lambda text: None)
    said: list[str] = []
    rest, run = runs_until(99)
    assert proof().go_on(run, said.append) == {"kills": 0 + 1 + 2 + 3}
    assert (first, rest) == ([0, 1], [2, 3])
    assert said[-1] == "4 runs: 6 kills"
    assert proof().done == [], "a complete proof begins anew"


def test_what_was_proven_of_other_code_is_not_taken_over(proof: Callable[[], LongProof], tmp_path: Path):
    _, run = runs_until(3)
    with pytest.raises(InterruptedRunError):
        proof().go_on(run, lambda text: None)
    assert len(proof().done) == 3
    (tmp_path / "test_it.py").write_text("changed", encoding="utf-8")
    assert proof().done == []
