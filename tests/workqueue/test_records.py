"""A journal line says exactly what was written or nothing, and a worker's history depends on nothing but the set of lines."""

from __future__ import annotations

import zlib
from base64 import b64encode
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from queuekit import ALICE, ANY_RECORD, BOB, Author, table

from fedspec.workqueue.fold import Fold
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.records import (
    KINDS,
    MAX_LINE_BYTES,
    Bye,
    Ckpt,
    Claim,
    Done,
    Fork,
    Opaque,
    Record,
    Seal,
    Yield,
    decode,
    encode,
    line_hash,
    pack_rows,
    unpack_rows,
)


def framed(body: bytes) -> bytes:
    return b"%08x %s" % (zlib.crc32(body), body)


def journal(worker: str, length: int) -> Author:
    author = Author(worker)
    for number in range(length):
        author.write(Claim, item="i", attempt=number)
    return author


def outcome(histories: Histories) -> tuple[list[Record], frozenset[str]]:
    return sorted(histories.accepted(), key=lambda r: (r.worker, r.seq)), histories.forked()


def read(*batches: list[bytes]) -> Histories:
    histories = Histories()
    for batch in batches:
        histories.offer(batch)
    return histories


@given(ANY_RECORD)
def test_a_record_of_any_type_survives_its_line(record: Record):
    line = encode(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line[:-1]) == record
    assert type(decode(line[:-1])) is type(record)


def test_every_type_that_is_declared_has_a_line_of_its_own():
    tags = [kind.__struct_config__.tag for kind in KINDS.__args__]
    assert len(set(tags)) == len(tags)


def test_a_line_with_any_flipped_bit_is_rejected():
    line = journal(ALICE, 1).lines[0]
    for position in range(len(line)):
        for bit in range(8):
            assert decode(line[:position] + bytes([line[position] ^ 1 << bit]) + line[position + 1 :]) is None


@given(st.integers(0, 200))
def test_a_line_cut_short_is_rejected(length: int):
    line = journal(ALICE, 1).lines[0]
    assert decode(line[: min(length, len(line) - 1)]) is None


def body(**changed: Any) -> bytes:
    fields = {
        "v": 1,
        "worker": ALICE,
        "seq": 0,
        "lam": 0,
        "prev": "0" * 16,
        "wall": "",
        "type": "claim",
        "item": "i",
        "attempt": 1,
    }
    return msgspec.json.encode({**fields, **changed})


@pytest.mark.parametrize(
    "changed", [{"v": 2}, {"v": 0}, {"seq": -1}, {"lam": -1}, {"lam": 2**53}, {"seq": "0"}, {"item": 3}, {"type": 7}]
)
def test_a_record_of_another_format_is_rejected(changed: dict[str, Any]):
    assert decode(framed(body())) is not None
    assert decode(framed(body(**changed))) is None


def test_a_field_that_a_later_version_added_is_ignored():
    assert decode(framed(body(colour="green"))) == decode(framed(body()))


def test_a_record_of_an_unknown_type_keeps_its_place_in_the_chain():
    author = Author()
    author.write(Claim, item="i", attempt=1)
    later = framed(body(type="teleport", seq=1, prev=line_hash(author.lines[-1])))
    assert isinstance(decode(later), Opaque)
    histories = read([author.lines[0], later])
    assert histories.length(ALICE) == 2


@given(st.binary(max_size=80))
@example(b"[" * 200_000)
@example(b'{"type":' * 100_000)
@example(b'{"type":"claim"')
@example(b'"\xff"')
@example(b'{"type":"claim","seq":' + b"9" * 5000 + b"}")
def test_garbage_is_left_out_and_never_raises(data: bytes):
    assert decode(data) is None
    assert decode(framed(data)) is None


def test_a_line_may_fill_a_mebibyte_and_not_more():
    empty = Author().write(Bye)
    room = MAX_LINE_BYTES - len(encode(empty))
    fits = encode(msgspec.structs.replace(empty, reason="x" * room))
    assert len(fits) == MAX_LINE_BYTES
    assert decode(fits[:-1]) is not None
    with pytest.raises(ValueError, match="exceeds"):
        encode(msgspec.structs.replace(empty, reason="x" * (room + 1)))
    assert decode(framed(body(item="x" * MAX_LINE_BYTES))) is None


# Histories


@st.composite
def line_sets(draw: st.DrawFn) -> list[bytes]:
    """Lines of two workers, with holes, forks at any place and what follows a fork, and damaged ones."""
    lines: list[bytes] = []
    for worker in (ALICE, BOB):
        original = journal(worker, draw(st.integers(0, 5)))
        lines += original.lines
        for at in draw(st.lists(st.integers(0, 4), max_size=2)):
            clone = Author(worker)
            clone.records, clone.lines = original.records[:at], original.lines[:at]
            for number in range(draw(st.integers(1, 2))):
                clone.write(Yield, item="i", attempt=number, reason=f"clone {at}")
            lines += clone.lines
    kept = draw(st.sets(st.sampled_from(lines))) if lines else set()
    return [*sorted(kept), b"garbage"]


@given(line_sets(), st.data())
def test_order_duplication_and_splitting_of_the_lines_change_nothing(lines: list[bytes], data: st.DataObject):
    shuffled = data.draw(st.permutations(lines + data.draw(st.lists(st.sampled_from(lines), max_size=3))))
    cut = data.draw(st.integers(0, len(shuffled)))
    together = read(lines)
    assert outcome(read(shuffled[:cut], shuffled[cut:])) == outcome(together)
    assert outcome(read(*[[line] for line in shuffled])) == outcome(together)


@given(line_sets(), st.data())
def test_the_newly_accepted_records_add_up_to_the_accepted_ones_unless_a_fork_revokes_some(
    lines: list[bytes], data: st.DataObject
):
    histories, added = Histories(), []
    for line in data.draw(st.permutations(lines)):
        fresh, revoked, _ = histories.offer([line])
        added = histories.accepted() if revoked else added + [record for record in fresh if not isinstance(record, Fork)]
    assert sorted(map(repr, added)) == sorted(map(repr, histories.accepted()))


@given(st.integers(0, 6), st.integers(0, 5))
def test_the_accepted_history_is_the_prefix_up_to_the_first_hole(length: int, missing: int):
    author = journal(ALICE, length)
    lines = [line for number, line in enumerate(author.lines) if number != missing]
    assert read(lines).accepted() == author.records[:missing]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_fork_ends_the_history_before_it_whichever_line_came_first(order: tuple[int, int]):
    one, other = journal(ALICE, 4), Author(ALICE)
    other.records, other.lines = one.records[:2], one.lines[:2]
    other.write(Yield, item="i", attempt=1, reason="I am a clone")
    batches = (one.lines, other.lines)
    histories = read(*(batches[number] for number in order))
    assert histories.accepted() == one.records[:2]
    assert histories.forked() == {ALICE}


def test_a_line_that_continues_another_history_is_not_accepted():
    one, other = journal(ALICE, 3), Author(ALICE)
    other.write(Bye)
    other.write(Bye, reason="prev is the hash of my own first line")
    for known in (1, 3):
        for batches in ([one.lines[:known], other.lines[1:]], [other.lines[1:], one.lines[:known]]):
            histories = read(*batches)
            assert histories.accepted() == one.records[:known]
            assert not histories.forked()


@st.composite
def lives_of_clones(draw: st.DrawFn) -> list[bytes]:
    """Lines of workers that save, finish and seal, some of them as two processes; a few lines are not there."""
    lines: list[bytes] = []
    for worker in (ALICE, BOB):
        author = Author(worker)
        for life in range(draw(st.integers(1, 3))):
            at = draw(st.integers(0, len(author.lines)))
            author.records, author.lines = author.records[:at], author.lines[:at]
            for _ in range(draw(st.integers(0, 4))):
                kind = draw(st.sampled_from([Claim, Ckpt, Done, Seal]))
                about: dict[str, Any] = {"item": "i", "attempt": draw(st.integers(1, 2))}
                if kind is Ckpt:
                    about |= {"round": 1, "file": "f", "sha256": "s", "base": "", "accuracy": float(life)}
                if kind is Done:
                    about |= {"rows": f"of life {life}", "rounds": 1}
                if kind is Seal:
                    results = [line_hash(line) for line in lines + author.lines if isinstance(decode(line), Done)]
                    about |= {"author": draw(st.sampled_from([ALICE, BOB])), "line": draw(st.sampled_from(["", *results]))}
                author.write(kind, **about)
            lines += author.lines
    return sorted(draw(st.sets(st.sampled_from(lines), min_size=len(set(lines)) // 2))) if lines else []


def judged(fold: Fold) -> tuple[Any, ...]:
    workers = {worker: (state.length, fold.gone(worker)) for worker, state in fold.workers.items()}
    of_the_item = fold.status("i"), fold.canonical("i"), fold.owner("i"), fold.generations("i")
    return workers, fold.forks, fold.unsealed, fold.finished, fold.view_of_the_gone(), *of_the_item


@given(lives_of_clones(), st.data())
def test_what_counts_of_cloned_workers_is_a_function_of_the_set_of_lines(lines: list[bytes], data: st.DataObject):
    together = judged(Fold(read(lines).records()))
    histories, fold, left = Histories(), Fold(), data.draw(st.permutations(lines))
    while left:
        cut = data.draw(st.integers(1, len(left)))
        fresh, revoked, _ = histories.offer(left[:cut])
        left = left[cut:]
        if revoked:
            fold = Fold(histories.records())
        for record in () if revoked else fresh:
            fold.add(record)
        assert judged(fold) == judged(Fold(histories.records()))
    assert judged(fold) == together


def test_damaged_lines_are_counted():
    author = journal(ALICE, 2)
    assert Histories().offer([*author.lines, b"", b"deadbeef {}", author.lines[0][:-1]])[2] == 3


# Packed rows

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_packed_rows_are_unpacked_as_they_were(rows: dict[str, Any]):
    assert unpack_rows(pack_rows(rows)) == rows


def packed(data: bytes) -> str:
    return b64encode(zlib.compress(data, 9)).decode()


NO_TABLES = [
    *("", "é", "not base64!", packed(b"[]"), packed(b"1"), packed(b"{"), packed(b"\xff\xfe\xfa"), packed(b"{}")[:8]),
    b64encode(b"not deflated").decode(),
    b64encode(zlib.compress(b"{}") + b"tail").decode(),
]


@pytest.mark.parametrize("text", NO_TABLES)
def test_what_is_no_packed_table_is_a_value_error(text: str):
    with pytest.raises(ValueError):  # noqa: PT011 - any message will do
        unpack_rows(text)


def test_a_table_nested_too_deep_is_a_value_error():
    with pytest.raises(ValueError, match="deep"):
        unpack_rows(packed(b"[" * 100_000))


def test_a_packed_bomb_is_refused_before_it_is_inflated_whole():
    with pytest.raises(ValueError, match="too large"):
        unpack_rows(packed(bytes(65 << 20)))


@given(st.text(max_size=60))
def test_hostile_rows_never_raise_anything_but_a_value_error(text: str):
    with suppress(ValueError):
        unpack_rows(text)


def test_a_result_of_a_thousand_rounds_fits_into_one_record():
    rows = pack_rows(table(rounds=1000, accuracy=1 / 3))
    assert encode(Author().write(Done, item="i", attempt=1, rows=rows, rounds=1000))
