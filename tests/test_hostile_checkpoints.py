"""A generation or base whose bytes are exactly what a hostile journal says: it costs a round, and no code, memory or file."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspec import checkpoints
from fedspec.checkpoints import CheckpointManager, Unusable
from fedspec.config import FederatedConfig
from fedspec.errors import DamagedError
from fedspec.federated.experiment import Experiment, prepare
from fedspec.federated.rounds import rounds
from fedspec.files import DiskFiles, MemoryDisk, MemoryFiles
from fedspec.results import Row, to_table
from tests.test_checkpoints import EXP, ITEM, WORKER, Bomb, Ckpt, row, save, state, tensors

PLAIN = {
    "format": 1,
    "item": ITEM,
    "round": 2,
    "base": "ba5e",
    "rows": json.dumps(to_table([row(1), row(2)])),
    "state": {"round": 2},
}


def stored(**changed: Any) -> bytes:
    return tensors({**PLAIN, **changed})


def repacked(data: bytes, compression: int = zipfile.ZIP_STORED, extra: bytes = b"", comment: bytes = b"") -> bytes:
    """The same archive, packed in another way."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        if extra:
            new.writestr("archive/extra", extra)
        new.comment = comment
    return out.getvalue()


def without_zip(payload: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def laughs(depth: int = 40) -> Any:
    """A list of lists of the same list: some bytes, and 2 ** depth values for whoever walks through it."""
    value: Any = [0]
    for _ in range(depth):
        value = [value, value]
    return value


def deep(depth: int = 100) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def loop() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def table(count: int) -> str:
    one = to_table([row(1)])
    return json.dumps({"columns": one["columns"], "rows": one["rows"] * count})


EVIL: dict[str, Callable[[], bytes]] = {
    "a packed archive": lambda: repacked(stored(), zipfile.ZIP_DEFLATED),
    "a bomb of zeros": lambda: repacked(stored(), zipfile.ZIP_DEFLATED, extra=bytes(64 << 20)),
    "an archive with a comment": lambda: repacked(stored(), comment=b"PK\5\6"),
    "an archive behind something": lambda: b"#!/bin/sh\n" + stored(),
    "an archive cut in two": lambda: stored()[:-22],
    "the form before archives": lambda: without_zip(PLAIN),
    "a bare pickle": lambda: pickle.dumps(PLAIN),
    "an endless laugh": lambda: stored(state=laughs()),
    "deeper than anybody goes": lambda: stored(state={"x": deep()}),
    "something that holds itself": lambda: stored(state={"x": loop()}),
    "a tensor that is larger than its numbers": lambda: stored(state={"x": torch.zeros(1).expand(1 << 40)}),
    "a sparse tensor": lambda: stored(state={"x": torch.eye(3).to_sparse()}),
    "a parameter": lambda: stored(state={"x": torch.nn.Parameter(torch.ones(2))}),
    "a number of 64 bits": lambda: stored(state={"x": 2**64}),
    "a state that is a tensor": lambda: stored(state=torch.ones(3)),
    "a state that is a list": lambda: stored(state=[1]),
    "no rows": lambda: stored(rows=table(0)),
    "one row for two rounds": lambda: stored(rows=table(1)),
    "two rows of round one": lambda: stored(rows=table(2)),
    "rows that are no text": lambda: stored(rows=to_table([row(1), row(2)])),
    "rows that are no JSON": lambda: stored(rows="{"),
    "rows that are half a letter": lambda: stored(rows="\ud800"),
    "rows that are deeper than anybody goes": lambda: stored(rows="[" * 100_000),
    "rows that are no table": lambda: stored(rows='{"columns": 7, "rows": "ab"}'),
    "rows that are words": lambda: stored(rows='{"columns": ["round"], "rows": ["a", "b"]}'),
    "a round that is a tensor": lambda: stored(round=torch.tensor([2, 2])),
    "an item that is a tensor": lambda: stored(item=torch.ones(2)),
}


@dataclass
class Folder:
    manager: CheckpointManager

    def plant(self, data: bytes, round_: int = 2, file: str = "") -> Ckpt:
        sha256 = hashlib.sha256(data).hexdigest()
        planted = Ckpt(round_, file or f"r{round_:04d}.a01.{WORKER}.{sha256[:12]}.pt", sha256)
        self.manager.files.write(self.manager.paths.generation(EXP, planted.file), data)
        return planted


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(CheckpointManager(tmp_path / "checkpoints_distributed", DiskFiles()))


def test_what_is_planted_here_would_be_used_if_it_were_honest(folder: Folder):
    resumed, _ = folder.manager.latest(EXP, ITEM, [folder.plant(stored())], None)
    assert resumed is not None
    assert resumed.round == 2


@pytest.mark.parametrize("name", EVIL)
def test_a_hostile_generation_costs_a_round(folder: Folder, name: str):
    older = save(folder.manager, 1)
    planted = folder.plant(EVIL[name]())
    resumed, unusable = folder.manager.latest(EXP, ITEM, [planted, older], None)
    assert resumed is not None
    assert resumed.round == 1
    assert unusable == [Unusable(2, "cannot be read by this version")]


def test_a_pickle_that_would_run_code_runs_none_in_whatever_form(folder: Folder, tmp_path: Path):
    crater = tmp_path / "crater"
    bomb = Bomb(crater)
    forms = [
        tensors(bomb),
        stored(state=bomb),
        stored(rows=bomb),
        repacked(stored(state=bomb)),
        without_zip(bomb),
        pickle.dumps(bomb),
    ]
    for data in forms:
        assert folder.manager.latest(EXP, ITEM, [folder.plant(data)], None)[0] is None
        name = hashlib.sha256(data).hexdigest()[:12]
        folder.manager.files.write(folder.manager.paths.base(name), data)
        assert folder.manager.load_base(name) is None
    assert not crater.exists()
    pickle.loads(forms[-1])
    assert crater.exists(), "the bomb works"


def test_a_file_too_large_to_be_one_is_not_read(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    planted = folder.plant(stored())
    name = hashlib.sha256(stored()).hexdigest()[:12]
    folder.manager.files.write(folder.manager.paths.base(name), stored())
    monkeypatch.setattr(checkpoints, "MAX_BYTES", len(stored()) - 1)
    assert folder.manager.latest(EXP, ITEM, [planted], None)[0] is None
    assert folder.manager.load_base(name) is None


def test_a_hundred_thousand_saved_rounds_that_are_not_there_are_one_look_at_the_folder(folder: Folder):
    older = save(folder.manager, 1)
    invented = [Ckpt(n, f"r{n:04d}.a01.{WORKER}.{'0' * 12}.pt", "0" * 64) for n in range(100_000, 1, -1)]
    resumed, unusable = folder.manager.latest(EXP, ITEM, [*invented, older], None)
    assert resumed is not None
    assert len(unusable) == len(invented)


def test_a_record_that_names_another_rounds_file_neither_uses_nor_prunes_it(folder: Folder):
    honest = [save(folder.manager, number) for number in (18, 19, 20)]
    files = folder.manager.files.names(folder.manager.paths.generations(EXP))
    lies = [Ckpt(1, ckpt.file, ckpt.sha256) for ckpt in honest] + [Ckpt(2, ckpt.file, "0" * 64) for ckpt in honest]
    assert folder.manager.latest(EXP, ITEM, lies, None)[0] is None
    folder.manager.prune(EXP, [*lies, *honest[1:]])
    assert folder.manager.files.names(folder.manager.paths.generations(EXP)) == files


@pytest.mark.parametrize(
    "payload",
    [{"w": 7}, {"w": [1]}, {"w": {"w": torch.ones(1)}}, [torch.ones(1)], {"w": torch.zeros(1).expand(1 << 40)}, torch.ones(2)],
    ids=range(6),
)
def test_a_base_that_is_no_tensors_by_name_is_none(folder: Folder, payload: Any):
    data = tensors(payload)
    name = hashlib.sha256(data).hexdigest()[:12]
    folder.manager.files.write(folder.manager.paths.base(name), data)
    assert folder.manager.load_base(name) is None


@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=8), st.integers(0, 200))
@settings(max_examples=80)
def test_any_bytes_with_their_right_hash_are_used_whole_or_not_at_all(changes: list[tuple[int, int]], cut: int):
    manager = CheckpointManager("folder", MemoryFiles(MemoryDisk()))
    data = bytearray(stored(state={**state(2), "round": 2}))
    for position, value in changes:
        data[position % len(data)] = value
    if cut < 20:
        del data[cut * 50 :]
    planted = Folder(manager).plant(bytes(data))
    resumed, _ = manager.latest(EXP, ITEM, [planted], None)
    if resumed is not None:
        assert isinstance(resumed.state, dict)
        assert [one.round for one in resumed.rows] == [1, 2]


LISTED: dict[str, bytes] = {
    "numbers that no one can print": b'{"experiment":"x","round":' + b"9" * 4000 + b"}",
    "a name that commands the terminal": b'{"experiment":"\\u001b[2J\\n\\u009b","round":1,"machine":"[red]\\u0007"}',
    "lists for numbers": b'{"experiment":"x","round":[[]],"accuracy":{}}',
    "deep JSON": b'{"experiment":' * 100_000,
    "a name of a megabyte": b'{"experiment":"' + b"x" * (1 << 20) + b'"}',
}


@pytest.mark.parametrize("name", LISTED)
def test_a_copy_for_people_that_is_none_is_listed_as_what_it_is_or_not_at_all(folder: Folder, name: str):
    folder.manager.files.write(folder.manager.paths.progress("evil"), LISTED[name])
    folder.manager.files.write(folder.manager.paths.root / "gen" / "NOT ours \x1b" / f"r0001.a01.{WORKER}.{'0' * 12}.pt", b"")
    save(folder.manager, 1)
    listed = folder.manager.list_checkpoints()
    assert EXP in [about["experiment"] for about in listed]
    for about in listed:
        assert isinstance(about["round"], int)


# What a run makes of a state that is whole and not its own


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return prepare(FederatedConfig(clients=2, rounds=2, head="aggregate", server="momentum", server_lr=0.3), device="cpu")


@pytest.fixture(scope="module")
def first(experiment: Experiment) -> dict[str, Any]:
    return next(event.state for event in rounds(experiment) if hasattr(event, "state"))


def other(state: dict[str, Any], *path: str, value: Any) -> dict[str, Any]:
    """The state with one value changed, wherever it is."""
    name, *rest = path
    name = next(iter(state)) if name == "*" else name
    return {**state, name: other(state[name], *rest, value=value) if rest else value}


STATES: dict[str, tuple[tuple[str, ...], Any]] = {
    "a round that is text": (("round",), "1"),
    "a round that is true": (("round",), True),
    "a round below 0": (("round",), -1),
    "a round beyond the last": (("round",), 3),
    "no adapter": (("adapter",), None),
    "an adapter of lists": (("adapter", "*", "A"), [[1.0]]),
    "factors of rank 0": (("adapter",), {}),
    "factors of another type": (("adapter", "*", "A"), torch.zeros(4, 64, dtype=torch.int64)),
    "a factor of three dimensions": (("adapter", "*", "A"), torch.zeros(4, 64, 1)),
    "factors that do not meet": (("adapter", "*", "A"), torch.zeros(7, 64)),
    "a rank beyond all bounds": (
        ("adapter", "*"),
        {"A": torch.zeros(1, 1).expand(9999, 64), "B": torch.zeros(1, 1).expand(64, 9999)},
    ),
    "no head": (("dense",), {}),
    "a head that is text": (("dense",), "head"),
    "a head of another shape": (("dense", "*"), torch.zeros(1)),
    "a method that remembers what it never knew": (("method",), {"server": torch.zeros(1)}),
    "a server without its momentum": (("server",), {}),
    "a momentum of another shape": (("server", "momentum", "*"), torch.zeros(1)),
    "debts of nobody": (("debts",), []),
    "a debt below 0": (("debts",), [{"A": 0, "B": 0, "dense": False, "residual": {"hidden.0": -1}}] * 2),
    "a debt of parts that are not there": (("debts",), [{"A": 0, "C": 0, "dense": False, "residual": {}}] * 2),
    "a debt that is no number": (("debts",), [{"A": 0.5, "B": 0, "dense": False, "residual": {}}] * 2),
    "a debt of all layers together": (("debts",), [{"A": 0, "B": 0, "dense": False, "residual": 0}] * 2),
    "a debt of layers without names": (("debts",), [{"A": 0, "B": 0, "dense": False, "residual": {0: 1}}] * 2),
    "a change of a layer that is not there": (("delta",), {"nowhere": torch.zeros(1)}),
    "changes that are a list": (("delta",), [1]),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_of_another_shape_is_refused_before_anything_is_trained(
    experiment: Experiment, first: dict[str, Any], name: str
):
    path, value = STATES[name]
    with pytest.raises(DamagedError):
        next(rounds(experiment, other(first, *path, value=value)))


def test_the_state_itself_is_gone_on_from(experiment: Experiment, first: dict[str, Any]):
    last = [event for event in rounds(experiment, first) if isinstance(getattr(event, "row", None), Row)]
    assert [event.row.round for event in last] == [2]  # type: ignore[union-attr]
