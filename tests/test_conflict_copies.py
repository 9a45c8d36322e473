"""Of which file a name is a conflict copy."""

from __future__ import annotations

import pytest

from fedspec.folders import original_of

COPIES = {
    "fedavg_iid.sync-conflict-20260131-120102-ABCDEF7.csv": "fedavg_iid.csv",
    "fedavg_iid (Ann's conflicted copy 2026-01-31).csv": "fedavg_iid.csv",
    "fedavg_iid (Konfliktkopie von Büro-PC 2026-01-31 2).csv": "fedavg_iid.csv",
    "fedavg_iid (user の競合コピー 2026-01-31).csv": "fedavg_iid.csv",
    "fedavg_iid (conflicted copy 2026-01-31 120102).csv": "fedavg_iid.csv",
    "fedavg_iid-DESKTOP-4F2K9Q1.csv": "fedavg_iid.csv",
    "fedavg_dirichlet_alpha1e-05-LAPTOP.csv": "fedavg_dirichlet_alpha1e-05.csv",
    "work_queue 2.json": "work_queue.json",
    "work_queue 14.json": "work_queue.json",
    "fedavg_iid_model 3.pt": "fedavg_iid_model.pt",
    "aaaaaaaa-000001.sync-conflict-20260131-120102-ABCDEF7.json": "aaaaaaaa-000001.json",
    # A copy of a copy.
    "a (X's conflicted copy 2026-01-31) (Y's conflicted copy 2026-02-01).csv": "a.csv",
    "a-PC 2.csv": "a.csv",
}
OTHERS = [
    "fedavg_iid.csv",
    "fedavg_dirichlet_alpha1e-05.csv",
    "fedavg_dirichlet_alpha0.5_c5_r10_s43.csv",
    "aaaaaaaa-000001.json",
    "work_queue.json",
    "work_queue.json.lock",
    "fedavg_iid copy.csv",
    "fedavg_iid (1).csv",
    "fedavg_iid - Copy.csv",
    "fedavg_iid (my notes).csv",
    "my results 1.csv",
    "README.md",
]


@pytest.mark.parametrize("name", COPIES)
def test_every_service_s_copies_are_known(name: str):
    assert original_of(name) == COPIES[name]


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_name_is_taken_for_one(name: str):
    assert original_of(name) is None
