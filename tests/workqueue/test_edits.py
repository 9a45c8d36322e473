"""What a person asks for by writing into `work_queue.json`: a table of words, hostile bytes, and the original's plain list."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from queuekit import ALICE, BOB, Author, fold_of, item, table

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.plan import make_item
from fedspec.workqueue.edits import MAX_NEW, MAX_TOLD, Edit, understand
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.records import Claim, Ctl, Done, Fail, Hello, pack_rows
from fedspec.workqueue.view import render_view

ONE, TWO = item(), item(43)
ITEMS = {i.id: i for i in (ONE, TWO)}
ORIGINAL = {"item_id": 0, "alpha": 0.1, "method": "fedavg", "split_type": "dirichlet", "status": "pending"}
ORIGINAL |= {"assigned_to": None, "started_at": None, "completed_at": None}


def _claim(author: Author) -> None:
    author.write(Claim, item=ONE.id, attempt=1)


def _fail(author: Author) -> None:
    author.write(Fail, item=ONE.id, attempt=1, fault="final", reason="no")


def _finish(author: Author) -> None:
    author.write(Done, item=ONE.id, attempt=1, rows=pack_rows(table()), rounds=1)


STATES: dict[str, Callable[[Author], object]] = {
    "pending": lambda author: None,
    "running": _claim,
    "failed": _fail,
    "cancelled": lambda author: author.write(Ctl, op="cancel", item=ONE.id),
    "done": _finish,
}
TABLE = {
    ("pending", "failed"): "retry",
    ("pending", "running"): "release",
    ("pending", "cancelled"): "resume",
    ("failed", "pending"): "cancel",
    ("failed", "running"): "cancel",
    ("cancelled", "pending"): "cancel",
    ("cancelled", "running"): "cancel",
}
WORDS = ("pending", "in_progress", "completed", "failed", "cancelled", "later", "")


def fold(state: str = "pending") -> Fold:
    author = Author(ALICE)
    author.write(Hello, machine=ALICE[:8], name="Mac")
    STATES[state](author)
    return fold_of(author)


def view(of: Fold) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(render_view(of, ITEMS))
    return entries


def read(entries: object, of: Fold | None = None, **about: Any) -> Edit:
    return understand(json.dumps(entries).encode(), of or fold(), ITEMS, **about)


def edited(of: Fold, **changes: Any) -> list[dict[str, Any]]:
    """The rendering with ONE's entry changed."""
    return [entry | changes if entry["id"] == ONE.id else entry for entry in view(of)]


def asked(edit: Edit) -> list[tuple[str, str]]:
    return [(command, about.exp) for command, about in edit.commands]


# What is ours


@pytest.mark.parametrize("state", STATES)
def test_a_rendering_asks_for_nothing_now_or_whatever_has_happened_since(state: str):
    old = render_view(fold(state), ITEMS)
    for later in STATES:
        assert understand(old, fold(later), ITEMS) == Edit("ours")


def test_an_editor_that_only_writes_it_in_another_way_has_changed_nothing():
    entries = view(fold())
    for text in (json.dumps(entries), json.dumps(entries, indent=4).replace("\n", "\r\n")):
        for data in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
            assert understand(data, fold(), ITEMS).kind == "ours"


def test_an_empty_file_and_every_part_of_a_rendering_ask_for_nothing_and_need_not_be_kept():
    data = render_view(fold("running"), ITEMS)
    for length in range(len(data) - 1):
        assert understand(data[:length], fold("running"), ITEMS) == Edit("torn")
    for nothing in (b"", b"\0" * 512, b" \r\n"):
        assert understand(nothing, fold(), ITEMS) == Edit("torn")


@pytest.mark.parametrize("key", ["status", "alpha", "method", "split_type", "seed", "lr", "device", "experiment", "id"])
def test_half_a_character_in_an_entry_makes_the_list_none(key: str):
    for entry in (view(fold())[0], {"method": "fedavg", "alpha": 0.3}):
        data = json.dumps([entry | {key: "\ud800"}]).encode()
        assert data.isascii()
        assert understand(data, fold(), ITEMS).kind == "foreign"


def test_an_edit_with_a_slip_of_the_pen_is_no_torn_rendering():
    data = render_view(fold("running"), ITEMS)
    slip = data.replace(b'"status": "pending"', b'"status": failed')
    assert slip != data
    assert understand(slip, fold("running"), ITEMS) == Edit("foreign")


def test_a_part_of_what_somebody_edited_is_kept():
    data = json.dumps(edited(fold("running"), status="failed"), indent=2).encode()
    assert understand(data[:-20], fold("running"), ITEMS).kind == "foreign"


@pytest.mark.parametrize(
    "data", [b"{}", b"null", b"my notes", b"[ my notes", b"[\n  my notes", b"\xff\xfe\x00", b"\x93", b"[" * 9999]
)
def test_what_is_no_list_of_experiments_is_foreign(data: bytes):
    assert understand(data, fold(), ITEMS) == Edit("foreign")


# Words


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_obeyed_where_a_command_would_be(word: str, state: str):
    for entries in (
        edited(fold(state), status=word),
        [{"id": ONE.id, "status": word}],
        [{"experiment": ONE.exp, "status": word}],
    ):
        edit = read(entries, fold(state))
        command = TABLE.get((word, state))
        assert asked(edit) == ([(command, ONE.exp)] if command else [])
        assert not edit.items


def test_nothing_is_completed_by_saying_so():
    edit = read(edited(fold("failed"), status="completed"), fold("failed"))
    assert not edit.asks
    assert edit.notes == (f"{ONE.exp} has no result, so it is not completed.",)


def test_an_item_whose_entry_was_deleted_is_left_alone():
    assert not read(view(fold("running"))[:1], fold("running")).asks
    assert read([], fold("running")) == Edit("ours")


def test_only_what_was_changed_counts_not_what_was_old():
    """The file was rendered while TWO waited; it is running by the time ONE's change is read."""
    entries = edited(fold("failed"), status="pending")
    author = Author(BOB)
    author.write(Claim, item=TWO.id, attempt=1)
    now = fold("failed")
    now.add(author.records[0])
    assert asked(read(entries, now)) == [("retry", ONE.exp)]
    without_hash = [{key: value for key, value in entry.items() if key != "view"} for entry in entries]
    assert asked(read(without_hash, now)) == [("retry", ONE.exp), ("release", TWO.exp)]


@pytest.mark.parametrize("word", ["cancelled", "failed"])
def test_of_a_long_list_too_only_what_was_changed_counts(word: str):
    """Four items have gone on since, and of a fifth a person says something else."""
    items = [item(seed) for seed in range(5000)]
    known = {i.id: i for i in items}
    nothing, author = Author(BOB), Author(ALICE)
    for one in items[-5:]:
        author.write(Claim, item=one.id, attempt=1)
    entries = json.loads(render_view(fold_of(nothing), known))
    for entry in entries:
        if entry["id"] == items[-3].id:
            entry["status"] = word
    edit = understand(json.dumps(entries).encode(), fold_of(author), known)
    assert asked(edit) == [("cancel", items[-3].exp)]


def test_an_experiment_cannot_be_made_another_one():
    edit = read(edited(fold("failed"), alpha=0.1, status="pending"), fold("failed"))
    assert not edit.asks
    assert "keeps its alpha" in edit.notes[0]


def test_an_entry_of_another_queue_is_told():
    edit = read([{"id": "0" * 12, "status": "failed"}])
    assert (edit.asks, edit.notes) == (False, ("'000000000000' is not in this queue.",))


# New experiments


def test_the_original_s_list_gives_the_experiments_it_names_with_our_defaults():
    rows = [ORIGINAL | {"alpha": alpha, "method": method} for alpha in (0.1, 1) for method in ("fedavg", "FedSpec")]
    edit = read([*rows, ORIGINAL | {"split_type": "iid"}, ORIGINAL | {"method": "centralized", "alpha": None}])
    assert edit.notes == ()
    assert edit.items == (
        *(
            make_item("federated", FederatedConfig(method=m, alpha=a, lr=0.02))
            for a in (0.1, 1.0)
            for m in ("fedavg", "fedspec")
        ),
        make_item("federated", FederatedConfig(method="fedavg", split="iid", alpha=None, lr=0.02)),
        make_item("centralized", CentralizedConfig()),
    )
    assert [i.exp for i in edit.items][:2] == ["fedavg_dirichlet_alpha0.1", "fedspec_dirichlet_alpha0.1"]


@pytest.mark.parametrize("status", ["pending", "in_progress", "failed", "completed"])
def test_what_the_original_left_unfinished_runs_and_what_has_a_csv_does_not(status: str):
    entries = [ORIGINAL | {"status": status}]
    assert len(read(entries).items) == 1
    assert len(read(entries, finished={"fedavg_dirichlet_alpha0.1"}).items) == (status != "completed")


def test_what_is_in_the_queue_already_is_not_added_again():
    same = ORIGINAL | {"alpha": ONE.config["alpha"]}
    assert read([same, same | {"rounds": ONE.config["rounds"]}]) == Edit("edited")
    assert len(read([ORIGINAL, ORIGINAL]).items) == 1


def test_an_entry_that_a_person_adds_may_say_any_key_of_the_configuration():
    (added,) = read([*view(fold()), {"method": "fedspec", "alpha": 0.5, "rounds": 3, "seed": 7}]).items
    assert (added.exp, added.config["lr"]) == ("fedspec_dirichlet_alpha0.5_r3_s7", 0.02)


WRONG: list[dict[str, Any]] = [
    {"method": "magic"},
    {"method": None},
    {"method": ["fedavg"]},
    {"alpha": "much"},
    {"alpha": -1},
    {"alpha": 1e300},
    {"split_type": "pooled"},
    {"rounds": 10**30},
    {"dataset": "nowhere"},
    {"model": "../../etc"},
    {"seed": True},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_an_entry_that_is_wrong_is_told_and_holds_up_no_other(change: dict[str, Any]):
    edit = read([ORIGINAL | change, 7, ORIGINAL])
    assert [i.exp for i in edit.items] == ["fedavg_dirichlet_alpha0.1"]
    assert len(edit.notes) == 2
    assert edit.notes[1] == "7 is no experiment."


def test_an_entry_with_a_key_that_means_nothing_is_not_added_since_it_would_be_another_experiment():
    edit = read([ORIGINAL | {"rouns": 3}, ORIGINAL | {"alpha": 0.3}])
    assert [i.exp for i in edit.items] == ["fedavg_dirichlet_alpha0.3"]
    assert edit.notes == ("'rouns' means nothing in an entry, so 'fedavg' with alpha 0.1 is not added. Did you mean rounds?",)
    assert read([ORIGINAL | {"colour": 3}]).notes[0].endswith("is not added.")


def test_a_status_that_is_no_word_of_ours_is_told_with_the_words_there_are():
    known = "Known: pending, in_progress, completed, failed, cancelled."
    edit = read(edited(fold(), status="faild"))
    assert (edit.asks, edit.notes) == (
        False,
        (f"{ONE.exp} stays as it is: the status 'faild' is unknown. {known} Did you mean failed?",),
    )
    edit = read([ORIGINAL | {"status": 7}])
    assert (edit.asks, edit.notes) == (False, (f"fedavg_dirichlet_alpha0.1 is not added: the status 7 is unknown. {known}",))
    assert read([{key: value for key, value in ORIGINAL.items() if key != "status"}]).asks


def test_what_is_written_into_an_item_s_entry_and_does_nothing_is_told():
    assert f"{ONE.exp} keeps its rounds" in read(edited(fold(), rounds=3)).notes[0]
    assert read(edited(fold(), priority=3)).notes == ("'priority' means nothing in an entry.",)
    assert not read(edited(fold(), rounds=ONE.config["rounds"])).notes


# Whatever comes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from([ONE.id, *WORDS, "fedavg"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ORIGINAL, "id", "view", "experiment"]), inner)
    ),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries({}, optional=dict.fromkeys([*ORIGINAL, "id", "view", "experiment", "rounds", "x"], JSON))


@given(st.binary(max_size=300))
def test_any_bytes_are_understood_in_some_way_and_ask_for_nothing(data: bytes):
    assert not understand(data, fold("running"), ITEMS).asks


@given(st.lists(ENTRY, max_size=4), st.sampled_from(sorted(STATES)))
@example([{"id": 10**40, "view": "x"}], "failed")
@example([{"status": "\ud800", "id": ONE.id, "view": "x"}], "failed")
def test_any_entries_are_understood_and_only_ever_give_commands_of_the_table(entries: list[dict[str, Any]], state: str):
    edit = read(entries, fold(state))
    allowed = {*TABLE.values()}
    assert all(command in allowed and about.id in ITEMS for command, about in edit.commands)


def endless(count: int) -> list[dict[str, Any]]:
    """Our rendering with every word doubtful, and much behind it that carries its hash."""
    entries = [entry | {"status": "completed"} for entry in view(fold())]
    return entries + [{"view": entries[0]["view"], "id": f"{n:0100}"} for n in range(count)]


HUGE: dict[str, Callable[[], bytes]] = {
    "what cannot be put back": lambda: json.dumps(endless(40_000)).encode(),
    "numbers": lambda: b"[" + b"1," * (4 << 20) + b"1]",
    "numbers cut short": lambda: b"[" + b"1," * (4 << 20),
    "gaps": lambda: b"[" + b" " * (8 << 20) + b"x",
    "new experiments": lambda: json.dumps([{"method": "fedavg", "seed": n} for n in range(40_000)]).encode(),
    "nonsense": lambda: json.dumps([{"method": f"x{n}"} for n in range(80_000)]).encode(),
}


@pytest.mark.parametrize("name", HUGE)
def test_no_file_keeps_a_heart_waiting_however_much_is_in_it(name: str):
    data = HUGE[name]()
    began = time.process_time()
    edit = understand(data, fold(), ITEMS)
    assert time.process_time() - began < 12.0, "a machine is presumed dead after 60"
    assert not edit.items
    assert len(edit.notes) <= MAX_TOLD + 2


def test_a_list_of_a_few_thousand_experiments_is_taken_in_as_a_whole():
    entries = [{"method": "fedavg", "seed": n} for n in range(1000, 1000 + MAX_NEW // 5)]
    assert len(read(entries).items) == MAX_NEW // 5


@given(st.lists(st.sampled_from(WORDS), min_size=2, max_size=2), st.sampled_from(sorted(STATES)))
def test_taken_in_twice_it_changes_nothing_more(words: list[str], state: str):
    of = fold(state)
    data = json.dumps([entry | {"status": word} for entry, word in zip(view(of), words, strict=True)]).encode()
    pen = Author(BOB)
    for command, about in understand(data, of, ITEMS).commands:
        of.add(pen.write(Ctl, lam=of.lam + 1, op=command, item=about.id, attempt=of.item(about.id).last_attempt()))
    then = {i: of.status(i) for i in ITEMS}
    for command, about in understand(data, of, ITEMS).commands:
        of.add(pen.write(Ctl, lam=of.lam + 1, op=command, item=about.id, attempt=of.item(about.id).last_attempt()))
    assert {i: of.status(i) for i in ITEMS} == then
