"""A saved round comes back bit for bit or not at all; what is damaged costs a round, never the item, and never runs as code."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedspec.checkpoints import KEEP, CheckpointManager, Resumed, Unusable
from fedspec.files import DiskFiles, Files, MemoryDisk, MemoryFiles
from fedspec.results import Row

EXP, ITEM, WORKER = "fedavg_dirichlet_alpha0.5", "4be0c1f29a77", "9f2c11ab-03d7e1"
QUARANTINE = Path("quarantine")


@dataclass(frozen=True)
class Ckpt:
    """What the journal says of a generation."""

    round: int
    file: str
    sha256: str
    base: str = "ba5e"


@pytest.fixture(params=["disk", "memory"])
def files(request: pytest.FixtureRequest) -> Files:
    return DiskFiles() if request.param == "disk" else MemoryFiles(MemoryDisk())


@pytest.fixture
def manager(files: Files, tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "checkpoints_distributed", files)


def row(round_: int) -> Row:
    return Row(
        method="fedavg", dataset="digits", model="mlp", seed=42, n_clients=2, participating=2, round=round_, local_epochs=1,
        lr=0.01, rank=4, rank_next=4, accuracy=1 / 3, loss=0.1 + 0.2, train_loss=1e-30,
    )  # fmt: skip


def state(round_: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(round_)
    return {"A": torch.randn(3, 4, generator=generator), "rng": generator.get_state(), "rank": 4, "deep": {"lr": [0.1, None]}}


def save(manager: CheckpointManager, round_: int, attempt: int = 1, item: str = ITEM) -> Ckpt:
    rows = [row(number) for number in range(1, round_ + 1)]
    generation = manager.save(EXP, item, round_, attempt, WORKER, state(round_), rows, "ba5e")
    return Ckpt(round_, generation.file, generation.sha256)


def best(manager: CheckpointManager, *recorded: Ckpt) -> tuple[Resumed | None, list[str]]:
    return manager.latest(EXP, ITEM, recorded, manager.paths.root / QUARANTINE)


def path_of(manager: CheckpointManager, ckpt: Ckpt) -> Path:
    return manager.paths.generation(EXP, ckpt.file)


def same(one: Any, other: Any) -> bool:
    """Bit for bit, through whatever nests tensors."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def test_the_best_generation_is_what_was_saved_bit_for_bit(manager: CheckpointManager):
    saved = save(manager, 3)
    resumed, notes = best(manager, saved)
    assert resumed is not None
    assert same(resumed.state, state(3))
    assert (resumed.round, resumed.rows, resumed.base, resumed.file) == (3, [row(1), row(2), row(3)], "ba5e", saved.file)
    assert notes == []


@given(st.lists(st.floats(width=32), max_size=6), st.sampled_from([torch.float32, torch.float64]))
def test_any_number_survives_even_those_that_are_none(values: list[float], dtype: torch.dtype):
    manager = CheckpointManager("folder", MemoryFiles(MemoryDisk()))
    tensor = torch.tensor(values, dtype=dtype)
    generation = manager.save(EXP, ITEM, 1, 1, WORKER, {"t": tensor}, [row(1)], "")
    resumed, _ = best(manager, Ckpt(1, generation.file, generation.sha256))
    assert resumed is not None
    assert same(resumed.state["t"], tensor)


def test_a_generation_is_named_by_its_round_attempt_worker_and_content(manager: CheckpointManager):
    saved = save(manager, 7, attempt=2)
    data = manager.files.read(path_of(manager, saved))
    assert hashlib.sha256(data).hexdigest() == saved.sha256
    assert saved.file == f"r0007.a02.{WORKER}.{saved.sha256[:12]}.pt"


# Damage


class Bomb:
    """Makes a folder where anybody unpickles it."""

    def __init__(self, crater: Path) -> None:
        self.crater = crater

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (os.mkdir, (str(self.crater),))


def tensors(payload: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit": flip,
    "cut short": lambda data: data[:-100],
    "empty": lambda data: b"",
    "zeros of the same length": lambda data: bytes(len(data)),
    "an error page": lambda data: b"<html>quota exceeded</html>",
}
# Files that are exactly what a hostile or foreign journal says they are.
STRANGERS: dict[str, Callable[[], bytes]] = {
    "a list": lambda: tensors([1, 2]),
    "nothing in it": lambda: tensors({}),
    "no state": lambda: tensors({"format": 1, "item": ITEM, "round": 2, "rows": '{"columns": [], "rows": []}'}),
    "rows that are none": lambda: tensors({"format": 1, "item": ITEM, "round": 2, "rows": 7, "state": {}}),
    "another format": lambda: tensors(
        {"format": 2, "item": ITEM, "round": 2, "rows": '{"columns": [], "rows": []}', "state": {}}
    ),
    "another round": lambda: tensors(
        {"format": 1, "item": ITEM, "round": 9, "rows": '{"columns": [], "rows": []}', "state": {}}
    ),
}


def expect_round_1(manager: CheckpointManager, newest: Ckpt, older: Ckpt) -> None:
    """The older round is used, a note says so, and the damaged file is kept in quarantine."""
    resumed, notes = best(manager, newest, older)
    assert resumed is not None
    assert resumed.round == 1
    assert notes == [Unusable(2, "is damaged")]
    quarantined = manager.files.names(manager.paths.root / QUARANTINE)
    assert quarantined == [f"{EXP}.{newest.file}"]
    assert manager.files.size(path_of(manager, newest)) is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_generation_costs_one_round(manager: CheckpointManager, damage: str):
    older, newest = save(manager, 1), save(manager, 2)
    path = path_of(manager, newest)
    manager.files.write(path, DAMAGES[damage](manager.files.read(path)))
    expect_round_1(manager, newest, older)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_generation_of_another_kind_is_passed_over_and_kept_for_whoever_can_read_it(
    manager: CheckpointManager, stranger: str
):
    older = save(manager, 1)
    expect_passed_over(manager, plant(manager, STRANGERS[stranger]()), older)


def expect_passed_over(manager: CheckpointManager, newest: Ckpt, older: Ckpt) -> None:
    resumed, notes = best(manager, newest, older)
    assert resumed is not None
    assert resumed.round == 1
    assert notes == [Unusable(2, "cannot be read by this version")]
    assert manager.files.size(path_of(manager, newest))


def plant(manager: CheckpointManager, data: bytes) -> Ckpt:
    """Put the bytes there as a round 2 whose name and journalled hash are right."""
    sha256 = hashlib.sha256(data).hexdigest()
    planted = Ckpt(2, f"r0002.a01.{WORKER}.{sha256[:12]}.pt", sha256)
    manager.files.write(path_of(manager, planted), data)
    return planted


def test_nothing_in_a_generation_is_ever_run(manager: CheckpointManager, tmp_path: Path):
    older, bomb, crater = save(manager, 1), Bomb(tmp_path / "crater"), tmp_path / "crater"
    for data in (tensors({"format": 1, "item": ITEM, "round": 2, "rows": bomb, "state": bomb}), pickle.dumps(bomb)):
        resumed, _ = best(manager, plant(manager, data), older)
        assert resumed is not None
        assert resumed.round == 1
        assert not crater.exists()
    torch.load(io.BytesIO(tensors(bomb)), weights_only=False)
    assert crater.exists(), "the bomb works"


def test_a_generation_of_another_item_is_passed_over(manager: CheckpointManager):
    expect_passed_over(manager, save(manager, 2, item="another item"), save(manager, 1))


def test_any_flipped_byte_of_a_generation_is_noticed():
    manager = CheckpointManager("folder", MemoryFiles(MemoryDisk()))
    saved = save(manager, 1)
    whole = manager.files.read(path_of(manager, saved))
    for position in range(0, len(whole), 97):
        manager.files.write(path_of(manager, saved), whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        assert best(manager, saved)[0] is None


def test_an_absent_generation_means_the_next_lower_round_and_is_not_called_damaged(manager: CheckpointManager):
    older, newest = save(manager, 1), save(manager, 2)
    manager.files.remove(path_of(manager, newest))
    resumed, (note,) = best(manager, newest, older)
    assert resumed is not None
    assert resumed.round == 1
    assert note == Unusable(2, "is not in this folder (yet)")


@pytest.mark.parametrize("file", ["../../../etc/passwd", "r0002.pt", "", "a/b", "R0002.A01.X.PT"])
def test_a_generation_whose_journalled_name_is_none_of_ours_is_left_alone(manager: CheckpointManager, file: str):
    older = save(manager, 1)
    resumed, notes = best(manager, Ckpt(2, file, "0" * 64), older)
    assert resumed is not None
    assert resumed.round == 1
    assert len(notes) == 1


def test_a_peer_that_set_the_damaged_file_aside_first_is_no_error(manager: CheckpointManager):
    saved = save(manager, 1)

    class PeerIsFaster(CheckpointManager):
        def _set_aside(self, exp: str, file: str, quarantine: Path) -> None:
            self.files.remove(self.paths.generation(exp, file))
            super()._set_aside(exp, file, quarantine)

    resumed, notes = best(PeerIsFaster(manager.paths.root, manager.files), replace(saved, sha256="0" * 64))
    assert resumed is None
    assert len(notes) == 1


def test_without_any_file_a_run_starts_again(manager: CheckpointManager):
    saved = save(manager, 1), save(manager, 2)
    for ckpt in saved:
        manager.files.remove(path_of(manager, ckpt))
    resumed, notes = best(manager, *saved)
    assert resumed is None
    assert len(notes) == 2
    assert save(manager, 1) == saved[0], "the same round has the same name and bytes"


# Clean-up


@pytest.mark.parametrize("rounds", range(1, 6))
def test_the_two_best_generations_that_are_here_are_kept(manager: CheckpointManager, rounds: int):
    recorded = [save(manager, number) for number in range(1, rounds + 1)]
    manager.prune(EXP, recorded)
    kept = manager.files.names(manager.paths.generations(EXP))
    assert kept == sorted(ckpt.file for ckpt in recorded[-KEEP:])


def test_a_generation_that_was_announced_but_has_not_arrived_does_not_count_as_kept(manager: CheckpointManager):
    recorded = [save(manager, number) for number in (1, 2, 3)]
    manager.prune(EXP, [*recorded, Ckpt(9, f"r0009.a01.{WORKER}.{'0' * 12}.pt", "0" * 64)])
    assert manager.files.names(manager.paths.generations(EXP)) == sorted(ckpt.file for ckpt in recorded[1:])


def test_what_is_no_generation_is_never_deleted(manager: CheckpointManager):
    recorded = [save(manager, number) for number in (1, 2, 3)]
    foreign = manager.paths.generations(EXP) / "r0001 (conflicted copy).pt"
    manager.files.write(foreign, b"")
    manager.prune(EXP, recorded)
    assert manager.files.size(foreign) == 0


# Bases


def base() -> dict[str, torch.Tensor]:
    return {"w": torch.arange(12.0).reshape(3, 4)}


def test_whether_a_generation_is_whole_is_read_once_and_of_a_damaged_one_ever_more_seldom(
    files: Files, manager: CheckpointManager, monkeypatch: pytest.MonkeyPatch
):
    saved = save(manager, 1)
    data, read, reads = files.read(path_of(manager, saved)), files.read, []

    def counted(path: Path, offset: int = 0, limit: int = -1) -> bytes:
        reads.append(path.name)
        return read(path, offset, limit)

    monkeypatch.setattr(files, "read", counted)

    def looks(held: bytes, count: int) -> tuple[set[bool], int]:
        reads.clear()
        files.write(path_of(manager, saved), held)
        return {manager.whole(EXP, saved) for _ in range(count)}, len(reads)

    assert looks(data[:10], 100) == ({False}, 7)
    assert looks(data[:20], 3) == ({False}, 2)
    assert looks(bytes(len(data)), 5) == ({False}, 3), "its size first"
    assert looks(data, 2) == ({False}, 0)
    assert looks(data, 1) == ({True}, 1), "its bytes later"
    assert looks(data, 100) == ({True}, 0)
    assert not manager.whole(EXP, replace(saved, sha256=saved.sha256[:12] + "0" * 52))
    assert not manager.whole("fedavg_iid", saved)
    files.remove(path_of(manager, saved))
    assert not manager.whole(EXP, saved)


def test_a_base_is_named_by_its_content_and_written_once(files: Files, manager: CheckpointManager):
    sha = manager.save_base(base())
    assert manager.save_base(base()) == sha != manager.save_base({"w": torch.zeros(3, 4)})
    loaded = manager.load_base(sha)
    assert loaded is not None
    assert same(loaded, base())
    assert len(files.names(manager.paths.base(sha).parent)) == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_base_is_none_and_is_healed_when_it_is_made_again(manager: CheckpointManager, damage: str):
    sha = manager.save_base(base())
    path = manager.paths.base(sha)
    manager.files.write(path, DAMAGES[damage](manager.files.read(path)))
    assert manager.load_base(sha) is None
    assert manager.save_base(base()) == sha
    assert manager.load_base(sha) is not None


@pytest.mark.parametrize("sha", ["0" * 12, "../../x", ""])
def test_a_base_that_is_not_here_is_none(manager: CheckpointManager, sha: str):
    assert manager.load_base(sha) is None


# Copies for people


@pytest.fixture
def on_disk(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "checkpoints_distributed")


def test_the_copy_for_people_names_the_bytes_of_the_model_beside_it(manager: CheckpointManager):
    generation = manager.save(EXP, ITEM, 1, 1, WORKER, state(1), [row(1)], "")
    manager.derive(EXP, generation, {"round": 1, "accuracy": 0.5})
    about = msgspec.json.decode(manager.files.read(manager.paths.progress(EXP)))
    assert about["sha256"] == hashlib.sha256(manager.files.read(manager.paths.model(EXP))).hexdigest()
    assert (about["experiment"], about["round"], about["accuracy"]) == (EXP, 1, 0.5)


def copied(manager: CheckpointManager, ckpt: Ckpt, name: str = "copy") -> None:
    generation = manager.saved(EXP, ckpt)
    assert generation is not None
    manager.derive(name, generation, {})


def test_what_was_saved_last_is_a_generation_or_when_they_are_gone_the_copy(manager: CheckpointManager):
    one, two, three = (save(manager, round_) for round_ in (1, 2, 3))
    recorded = [three, two, one]

    def round_found() -> int | None:
        found = manager.last(EXP, ITEM, recorded, "copy")
        assert found is None or (same(found.state, state(found.round)) and found.rows[-1] == row(found.round))
        return None if found is None else found.round

    assert round_found() == 3
    copied(manager, two)
    assert round_found() == 3
    manager.files.remove(path_of(manager, three))
    assert round_found() == 2
    copied(manager, one)
    assert round_found() == 2
    manager.files.remove(path_of(manager, two))
    manager.files.remove(path_of(manager, one))
    assert round_found() == 1
    manager.files.write(manager.paths.model("copy"), b"nothing that the journal knows")
    assert round_found() is None


def test_a_copy_of_another_item_is_not_what_was_saved_last(manager: CheckpointManager):
    other = save(manager, 1, item="0" * 12)
    copied(manager, other)
    assert manager.last(EXP, ITEM, [other], "copy") is None


def test_the_model_is_copied_before_the_json_that_names_it():
    steps: list[str] = []
    manager = CheckpointManager("folder", MemoryFiles(MemoryDisk(), before_write=steps.append))
    generation = manager.save(EXP, ITEM, 1, 1, WORKER, state(1), [], "")
    steps.clear()
    manager.derive(EXP, generation, {})
    assert steps.index(f"rename {EXP}_model.pt") < steps.index(f"write {EXP}.json")


def test_an_empty_or_missing_folder_lists_nothing(on_disk: CheckpointManager):
    assert on_disk.list_checkpoints() == []
    on_disk.save_base(base())
    assert on_disk.list_checkpoints() == []


def test_a_checkpoint_is_listed_with_what_was_said_of_it(on_disk: CheckpointManager):
    generation = on_disk.save(EXP, ITEM, 1, 1, WORKER, state(1), [row(1)], "")
    on_disk.derive(EXP, generation, {"round": 1, "rounds": 20, "accuracy": 0.5, "machine": "Mac"})
    (listed,) = on_disk.list_checkpoints()
    assert (listed["experiment"], listed["round"], listed["rounds"], listed["machine"]) == (EXP, 1, 20, "Mac")


@pytest.mark.parametrize("damage", [None, b"", b"{", b"[1]", b'{"experiment": 7}', b'"\xff"', b"[" * 99999])
def test_a_checkpoint_whose_copy_is_missing_or_damaged_is_listed_by_its_newest_generation(
    on_disk: CheckpointManager, damage: bytes | None
):
    save(on_disk, 1)
    newest = save(on_disk, 2, attempt=3)
    if damage is not None:
        on_disk.files.write(on_disk.paths.progress(EXP), damage)
    assert on_disk.list_checkpoints() == [{"experiment": EXP, "generation": newest.file, "round": 2, "worker": WORKER}]
