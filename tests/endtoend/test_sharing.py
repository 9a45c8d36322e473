"""Workers that share a queue share its work: each item is done once, and all of them take part."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from conftest import NewMachine, Undisturbed
from machines import enqueue, journal, of_kind, results, small, until

from fedspec.workqueue.records import Ckpt, Claim, Done


def test_two_workers_do_each_item_once_and_both_work(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed, tmp_path: Path
):
    items = [small(seed, method=method) for seed in (42, 43, 44) for method in ("fedavg", "fedspec")]
    enqueue(workspace, items)
    # The first client of each waits until both have claimed something, so that neither does all before the other is there.
    both = tmp_path / "both"
    running = [new_machine(name).work(scale=0.1, meet=str(both)) for name in ("mac", "pc")]
    until(lambda: len({claim.worker for claim in of_kind(journal(workspace), Claim)}) == 2)
    both.touch()
    assert [one.wait() for one in running] == [0, 0]

    assert results(workspace) == undisturbed(*items)
    records = journal(workspace)
    once = Counter(item.id for item in items)
    assert Counter(claim.item for claim in of_kind(records, Claim)) == once
    assert Counter(done.item for done in of_kind(records, Done)) == once
    assert Counter((ckpt.item, ckpt.round) for ckpt in of_kind(records, Ckpt)).most_common(1)[0][1] == 1
    assert len({done.worker for done in of_kind(records, Done)}) == 2
