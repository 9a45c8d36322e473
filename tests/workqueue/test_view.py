"""The derived files: the queue in the original's words, and a CSV for each result; both come back and neither is obeyed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from queuekit import ALICE, BOB, WALL, WORKSPACE, Author, Share, claimed, fold_of, item, table

from fedspec.config import CentralizedConfig
from fedspec.files import MemoryFiles
from fedspec.plan import Item, make_item, published_names
from fedspec.results import from_table, to_csv
from fedspec.workqueue.records import Claim, Ctl, Done, Fail, Hello, Seal, pack_rows
from fedspec.workqueue.store import Store
from fedspec.workqueue.view import Publisher, render_view, view_hash

ORIGINAL_FIELDS = ["item_id", "alpha", "method", "split_type", "status", "assigned_to", "started_at", "completed_at"]
ONE = item()
CSV = WORKSPACE.result(ONE.exp)


def machine(worker: str = ALICE, name: str = "Mac") -> Author:
    author = Author(worker)
    author.write(Hello, machine=worker[:8], name=name)
    return author


def finish(author: Author, of: Item, rows: str = "", attempt: int = 1) -> Author:
    author.write(Claim, item=of.id, attempt=attempt)
    author.write(Done, item=of.id, attempt=attempt, rows=rows or pack_rows(table()), rounds=1)
    return author


def entries(*authors: Author, items: tuple[Item, ...] = (ONE,)) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(render_view(fold_of(*authors), {i.id: i for i in items}))
    return found


def publisher(share: Share, *authors: Author, items: tuple[Item, ...] = (ONE,)) -> Publisher:
    """A process that has read these journals and items."""
    store = Store(MemoryFiles(share.disk), WORKSPACE)
    for author in authors:
        for line in author.lines:
            store.add_line(line)
    store.items.update({i.id: i for i in items})
    return Publisher(store.files, store)


# work_queue.json


def test_an_entry_begins_with_the_original_s_fields_in_their_order():
    (entry,) = entries(finish(machine(), ONE))
    assert list(entry)[: len(ORIGINAL_FIELDS)] == ORIGINAL_FIELDS
    assert entry["item_id"] == 0
    assert (entry["alpha"], entry["method"], entry["split_type"]) == (0.5, "fedavg", "dirichlet")
    assert (entry["assigned_to"], entry["started_at"], entry["completed_at"]) == ("Mac", WALL, WALL)


def _claimed(author: Author) -> None:
    author.write(Claim, item=ONE.id, attempt=1)


STATUS = {
    "pending": lambda a: None,
    "in_progress": _claimed,
    "completed": lambda a: finish(a, ONE),
    "failed": lambda a: a.write(Fail, item=ONE.id, attempt=1, fault="final", reason=""),
}


@pytest.mark.parametrize("status", STATUS)
def test_the_status_is_one_of_the_original_s_four_words(status: str):
    author = machine()
    STATUS[status](author)
    assert entries(author)[0]["status"] == status


def test_a_sealed_result_is_completed_and_a_cancelled_item_has_failed():
    sealed = finish(machine(), ONE)
    sealed.write(Seal, item=ONE.id, attempt=1, author=ALICE)
    assert entries(sealed)[0]["status"] == "completed"
    cancelled = machine()
    cancelled.write(Ctl, op="cancel", item=ONE.id)
    assert entries(cancelled)[0]["status"] == "failed"


def test_what_nobody_has_touched_is_null():
    (entry,) = entries()
    assert [entry[name] for name in ("assigned_to", "started_at", "completed_at")] == [None, None, None]


def test_the_baseline_comes_first_and_has_no_alpha():
    baseline = make_item("centralized", CentralizedConfig())
    first, second = entries(items=(ONE, baseline))
    assert (first["method"], first["alpha"], first["split_type"]) == ("centralized", None, "pooled")
    assert [first["item_id"], second["item_id"]] == [0, 1]


def test_the_view_knows_its_own_bytes_and_not_edited_ones():
    view = entries(finish(machine(), ONE), items=(ONE, item(43)))
    assert {entry["view"] for entry in view} == {view_hash(view)}
    for key in ("status", "alpha", "experiment"):
        edited = [{**view[0], key: "by hand"}, *view[1:]]
        assert view_hash(edited) != view[0]["view"]
    assert view_hash(view[::-1]) != view[0]["view"]


def test_the_view_is_the_same_for_everybody_whatever_order_the_records_came_in():
    authors = [finish(machine(ALICE, "Mac"), ONE), finish(machine(BOB, "Mac"), item(43))]
    assert entries(*authors, items=(ONE, item(43))) == entries(*authors[::-1], items=(item(43), ONE))


def test_the_view_is_written_only_if_it_differs_and_comes_back_when_it_is_gone(share: Share):
    steps: list[str] = []
    one = publisher(share, finish(machine(), ONE))
    one.files = MemoryFiles(share.disk, before_write=steps.append)
    one.write_view()
    assert steps
    steps.clear()
    one.write_view()
    assert not steps
    for damage in (b"", b"[]", None):
        share.disk.contents.pop(WORKSPACE.view) if damage is None else share.disk.contents.update({WORKSPACE.view: damage})
        one.write_view()
        assert json.loads(share.disk.contents[WORKSPACE.view])


def test_a_hand_edit_of_the_view_changes_no_decision(share: Share):
    share.enqueue(ONE)
    share.disk.contents[WORKSPACE.view] = json.dumps([{"item_id": 0, "status": "completed"}]).encode()
    assert claimed(share.member("mac")).item == ONE


# CSVs


def test_a_result_is_published_once_and_only_if_its_bytes_differ(share: Share):
    one, other = (publisher(share, finish(machine(), ONE)) for _ in range(2))
    assert one.publish() == [ONE.exp]
    assert share.disk.contents[CSV] == to_csv(from_table(table()))
    assert one.publish() == []
    assert other.publish() == [], "the bytes are there already"


@pytest.mark.parametrize("damage", [None, b"", b"by hand"])
def test_a_result_that_was_deleted_or_edited_comes_back(share: Share, damage: bytes | None):
    one = publisher(share, finish(machine(), ONE))
    one.publish()
    share.disk.contents.pop(CSV) if damage is None else share.disk.contents.update({CSV: damage})
    assert one.publish(check_all=True) == [ONE.exp]
    assert share.disk.contents[CSV] == to_csv(from_table(table()))


def test_a_later_result_that_counts_replaces_the_earlier_one(share: Share):
    one = publisher(share, finish(machine(ALICE), ONE, pack_rows(table(accuracy=0.1))))
    one.publish()
    for line in finish(machine(BOB), ONE, pack_rows(table(accuracy=0.9)), attempt=2).lines:
        one.store.add_line(line)
    assert one.publish() == [ONE.exp]
    assert share.disk.contents[CSV] == to_csv(from_table(table(accuracy=0.9)))


def test_when_a_second_item_of_one_name_arrives_each_has_its_own_file(share: Share):
    twin = msgspec.structs.replace(ONE, config={**ONE.config, "lora_dropout": 0.25})
    accuracy = {ONE.id: 0.25, twin.id: 0.75}
    late, early = sorted((ONE, twin), key=lambda i: i.id)
    author = machine()
    for of in (ONE, twin):
        finish(author, of, pack_rows(table(accuracy=accuracy[of.id])))
    one = publisher(share, author, items=(early,))
    one.publish()
    one.store.items[late.id] = late
    one.publish()
    for item_id, name in published_names((early, late)).items():
        assert share.disk.contents[WORKSPACE.result(name)] == to_csv(from_table(table(accuracy=accuracy[item_id])))


HOSTILE = [
    "no base64",
    pack_rows({}),
    pack_rows({"columns": "round", "rows": [[1]]}),
    pack_rows({"columns": ["round"], "rows": [[1]]}),
    pack_rows({"columns": table()["columns"], "rows": 7}),
    pack_rows({"columns": table()["columns"], "rows": [["../../etc"] * len(table()["columns"])]}),
    pack_rows({"columns": [[["x"]]], "rows": [[None]]}),
    pack_rows({"columns": {"a": 1}, "rows": {"b": 2}}),
]


@pytest.mark.parametrize("rows", HOSTILE, ids=range(len(HOSTILE)))
def test_rows_that_cannot_be_read_are_told_and_hold_up_no_other_result(share: Share, rows: str):
    other = item(43)
    one = publisher(share, finish(machine(ALICE), ONE, rows), finish(machine(BOB), other), items=(ONE, other))
    assert one.publish() == [other.exp]
    assert CSV not in share.disk.contents
    assert ONE.exp in one.store.damaged[f"result of {ONE.exp}"]
