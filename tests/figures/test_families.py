"""Runs are averaged and compared only where they differ in method, alpha and seed alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.errors import SetupError
from fedspec.figures.families import FamilyKey, family_key, group
from fedspec.figures.runs import Run, load_runs

from .conftest import Folder

PLAIN = FamilyKey("digits", "mlp", 10, 20, 1, "")


def run(folder: Folder, config: FederatedConfig | CentralizedConfig, **options: object) -> Run:
    path = folder.add(config, 0.5, 0.1, **options)  # type: ignore[arg-type]
    return load_runs([path])[0][0]


def test_method_alpha_and_seed_do_not_make_a_family(folder: Folder) -> None:
    for method, alpha, seed in product(("fedavg", "fedavg_rebalanced", "fedspec"), (0.1, 0.5, None), (42, 1)):
        split = "dirichlet" if alpha else "iid"
        found = family_key(run(folder, FederatedConfig(method=method, alpha=alpha, split=split, seed=seed)))
        assert found == PLAIN, (method, alpha, seed)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"clients": 5}, replace(PLAIN, clients=5)),
        ({"rounds": 10}, replace(PLAIN, rounds=10)),
        ({"local_epochs": 2}, replace(PLAIN, local_epochs=2)),
        ({"dataset": "mnist", "model": "vit_b_16"}, replace(PLAIN, dataset="mnist", model="vit_b_16")),
        ({"batch_size": 32}, replace(PLAIN, rest="_b32")),
        ({"lr": 0.03, "seed": 7, "head": "aggregate"}, replace(PLAIN, rest="_head-aggregate")),
        ({"rank_rule": "energy", "clients": 5, "rounds": 3}, replace(PLAIN, clients=5, rounds=3, rest="_energy")),
    ],
)
def test_everything_else_does(change: dict[str, object], expected: FamilyKey, folder: Folder) -> None:
    assert family_key(run(folder, msgspec.structs.replace(FederatedConfig(), **change))) == expected


def test_an_unfinished_run_stays_in_its_family(folder: Folder) -> None:
    assert family_key(run(folder, FederatedConfig(), done=3)) == PLAIN


def test_a_file_with_a_name_of_its_own_is_compared_with_nothing(folder: Folder) -> None:
    key = family_key(run(folder, FederatedConfig(), name="My best run (2)"))
    assert key == replace(PLAIN, rest="_My best run (2)")
    assert key.slug == "digits_mlp_c10_r20_my-best-run-2"


def test_files_that_a_person_chose_are_compared_by_their_rows(folder: Folder) -> None:
    mine = run(folder, FederatedConfig(), name="mine", done=7)
    other = run(folder, FederatedConfig(method="fedspec", batch_size=32), done=9)
    (family,) = group([mine, other], by_name=False).families
    assert family.runs == (mine, other)
    assert family.key == replace(PLAIN, rounds=9)


def test_centralized_goes_with_every_family_of_its_settings(folder: Folder) -> None:
    federated = [run(folder, FederatedConfig(clients=clients, rank_rule="energy")) for clients in (5, 10)]
    other = run(folder, FederatedConfig(rounds=10))
    centralized = run(folder, CentralizedConfig())
    unmatched = run(folder, CentralizedConfig(batch_size=64))
    grouping = group([*federated, other, centralized, unmatched])
    with_it = {family.runs[0].name: family.references for family in grouping.families}
    assert with_it == {federated[0].name: (centralized,), federated[1].name: (centralized,), other.name: ()}
    assert grouping.notes == (f"Left out: no federated experiment here matches {unmatched.name}.",)


def test_a_copy_that_a_sync_service_made_is_not_another_seed(folder: Folder) -> None:
    original = run(folder, FederatedConfig())
    for name in (f"{original.name} 2", f"{original.name} (Windows's conflicted copy)"):
        shutil.copy(folder.path / f"{original.name}.csv", folder.path / f"{name}.csv")
    behind = run(folder, FederatedConfig(), name="0 behind", done=4)
    grouping = group([*load_runs(folder.path)[0]])
    assert [[member.name for member in family.runs] for family in grouping.families] == [[original.name]]
    assert len(grouping.notes) == 3
    assert any(behind.name in note for note in grouping.notes)


def test_a_run_with_another_learning_rate_is_not_another_seed(folder: Folder) -> None:
    """As when the tuned default changed between two versions, which no name tells."""
    usual = [run(folder, FederatedConfig(seed=seed)) for seed in (1, 2)]
    odd = run(folder, FederatedConfig(seed=3, lr=0.5), name="fedavg_dirichlet_alpha0.5_s3")
    grouping = group([odd, *usual])
    assert [(family.runs, family.swept) for family in grouping.families] == [(tuple(usual), (odd,))]


def test_a_run_with_another_rank_is_in_no_figure(folder: Folder) -> None:
    usual = [run(folder, FederatedConfig(seed=seed)) for seed in (1, 2)]
    odd = run(folder, FederatedConfig(seed=3, rank=8), name="fedavg_dirichlet_alpha0.5_s3")
    grouping = group([odd, *usual])
    assert [(family.runs, family.swept) for family in grouping.families] == [(tuple(usual), ())]
    assert grouping.notes == (f"Left out: {odd.name} has rank 8; the runs of fedavg shown have rank 4.",)


@pytest.mark.parametrize("lr", [0.03, 1.0, 1e-05])
def test_each_method_may_have_its_own_learning_rate(lr: float, folder: Folder) -> None:
    usual = run(folder, FederatedConfig(batch_size=32))
    tuned = run(folder, FederatedConfig(method="fedspec", batch_size=32, lr=lr))
    centralized = run(folder, CentralizedConfig(batch_size=32, lr=0.007))
    grouping = group([usual, tuned, centralized])
    assert [(family.runs, family.references) for family in grouping.families] == [((usual, tuned), (centralized,))]
    assert grouping.notes == ()


def test_a_learning_rate_for_all_federated_methods_keeps_the_baseline(folder: Folder) -> None:
    federated = [run(folder, FederatedConfig(method=method, lr=0.005)) for method in ("fedavg", "fedspec")]
    centralized = run(folder, CentralizedConfig())
    (family,) = group([*federated, centralized]).families
    assert (family.runs, family.references) == (tuple(federated), (centralized,))


def test_several_learning_rates_of_a_method_are_not_averaged_and_told(folder: Folder) -> None:
    usual = [run(folder, FederatedConfig(method="fedspec", seed=seed, lr=0.03)) for seed in (1, 2)]
    odd = [run(folder, FederatedConfig(method="fedspec", seed=1, lr=lr)) for lr in (0.01, 0.1)]
    other = run(folder, FederatedConfig(seed=1))
    grouping = group([*odd, other, *usual])
    assert [(family.runs, set(family.swept)) for family in grouping.families] == [((other, *usual), set(odd))]
    assert grouping.notes == (
        "Shown of fedspec: learning rate 0.03, which most runs have; runs with 0.01, 0.1 are in the figure"
        " learning_rate alone.",
    )


def test_of_learning_rates_with_equally_many_runs_the_best_on_validation_is_shown_whatever_the_test_says(
    folder: Folder,
) -> None:
    for lr, test, validation in ((0.003, 0.9, 0.6), (0.01, 0.5, 0.8), (0.1, 0.7, 0.7)):
        for seed in (1, 2):
            folder.add(FederatedConfig(seed=seed, lr=lr), test, validation=validation)
    grouping = group(load_runs(folder.path)[0])
    (family,) = grouping.families
    assert {run.first("lr") for run in family.runs} == {0.01}
    assert sorted({run.first("lr") for run in family.swept}) == [0.003, 0.1]
    assert (
        "the best on validation data of those with equally many runs, with the very seeds that are shown" in grouping.notes[0]
    )


def test_validation_is_compared_at_the_same_alphas_and_seeds(folder: Folder) -> None:
    """A rate that was tried on easier partitions has not shown that it is better."""
    for lr, runs in ((0.01, ((0.1, 0.7), (0.5, 0.8))), (0.1, ((0.5, 0.75), (10.0, 0.99)))):
        for alpha, validation in runs:
            folder.add(FederatedConfig(alpha=alpha, lr=lr), 0.5, validation=validation)
    (family,) = group(load_runs(folder.path)[0]).families
    assert {run.first("lr") for run in family.runs} == {0.01}


def test_without_validation_the_lowest_of_equally_many_is_shown_and_said_to_be_that(folder: Folder) -> None:
    for lr in (0.1, 0.01):
        folder.add(FederatedConfig(lr=lr), 0.5)
    grouping = group(load_runs(folder.path)[0])
    assert {run.first("lr") for run in grouping.families[0].runs} == {0.01}
    assert "there is no validation accuracy to choose by" in grouping.notes[0]


def test_what_one_method_alone_reads_goes_with_it(folder: Folder) -> None:
    usual = run(folder, FederatedConfig(batch_size=8))
    for change in ({"method": "florist", "kept_energy": 0.5}, {"method": "lora_fair", "fair_weight": 1e-05, "seed": 1}):
        assert family_key(run(folder, msgspec.structs.replace(FederatedConfig(batch_size=8), **change))) == family_key(usual)


def test_learning_rates_of_the_baseline_are_kept_with_it(folder: Folder) -> None:
    folder.add(FederatedConfig(), 0.8)
    for lr, validation in ((0.005, 0.9), (0.05, 0.7)):
        folder.add(CentralizedConfig(lr=lr), 0.9, validation=validation)
    (family,) = group(load_runs(folder.path)[0]).families
    assert [(run.method, run.first("lr")) for run in (*family.references, *family.swept)] == [
        ("centralized", 0.005),
        ("centralized", 0.05),
    ]


@pytest.mark.parametrize(
    ("key", "title"),
    [
        (PLAIN, "digits, mlp, 10 clients, 20 rounds"),
        (replace(PLAIN, clients=1, rounds=1), "digits, mlp, 1 client, 1 round"),
        (replace(PLAIN, local_epochs=2, rest="_b32_energy"), "digits, mlp, 10 clients, 20 rounds, 2 local epochs, b32 energy"),
    ],
)
def test_a_title_says_the_family_in_words(key: FamilyKey, title: str) -> None:
    assert key.title == title


def test_the_largest_family_comes_first(folder: Folder) -> None:
    folder.grid({"fedavg": 0.8, "fedspec": 0.8}, seeds=2, rounds=4)
    folder.grid({"fedavg": 0.8, "fedspec": 0.8}, seeds=1, rounds=3)
    assert [family.key.rounds for family in group(load_runs(folder.path)[0]).families] == [4, 3]


@given(order=st.permutations(range(8)))
def test_grouping_does_not_depend_on_the_order_of_files(order: list[int], eight_runs: tuple[Run, ...]) -> None:
    def names(runs: Iterable[Run]) -> list[tuple[list[str], list[str]]]:
        return [([r.name for r in f.runs], [r.name for r in f.references]) for f in group(runs).families]

    assert names([eight_runs[place] for place in order]) == names(eight_runs)


@pytest.fixture(scope="module")
def eight_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ...]:
    folder = Folder(tmp_path_factory.mktemp("order"))
    folder.grid({"fedavg": 0.8, "fedspec": 0.8}, seeds=2, rounds=2, centralized=0.9)
    folder.grid({"fedavg": 0.8, "fedspec": 0.8}, seeds=1, rounds=1)
    return load_runs(folder.path)[0]


def test_a_damaged_file_is_named_with_its_remedy_and_hides_no_other(folder: Folder) -> None:
    good = folder.add(FederatedConfig(), 0.5)
    (folder.path / "fedspec_dirichlet_alpha0.5.csv").write_bytes(good.read_bytes()[:-20])
    runs, notes = load_runs(folder.path)
    assert [found.name for found in runs] == ["fedavg_dirichlet_alpha0.5"]
    assert len(notes) == 1
    assert "fedspec_dirichlet_alpha0.5.csv" in notes[0]
    assert "Delete" in notes[0]


def test_no_results_and_only_damaged_ones_are_told_apart(folder: Folder) -> None:
    with pytest.raises(SetupError, match=r"No results in .* yet.*fedspec run quick"):
        load_runs(folder.path)
    (folder.path / "fedavg.csv").write_bytes(b"\0")
    with pytest.raises(SetupError, match=r"No readable results.*fedavg\.csv"):
        load_runs(folder.path)


def searched(lr: float, seed: int, **more: object) -> FederatedConfig:
    return FederatedConfig(lr=lr, seed=seed, purpose="search", **more)  # type: ignore[arg-type]


def test_runs_that_search_for_a_rate_are_in_no_mean_also_at_the_rate_that_was_found(folder: Folder) -> None:
    configs = [searched(lr, seed) for lr in (0.01, 0.02) for seed in (0, 1)] + [
        FederatedConfig(lr=0.02, seed=s) for s in (42, 43)
    ]
    baseline = [CentralizedConfig(lr=lr, seed=0, purpose="search") for lr in (0.01, 0.02)] + [CentralizedConfig(lr=0.02)]
    found = group([run(folder, config) for config in (*configs, *baseline)])
    [family] = found.families
    assert family.key == PLAIN
    assert sorted(one.seed for one in family.runs) == [42, 43]
    assert [one.seed for one in family.references] == [42]
    assert len(family.swept) == 4 + 2
    assert not found.notes


def test_a_search_whose_report_is_not_there_yet_can_be_looked_at_by_itself(folder: Folder) -> None:
    [family] = group([run(folder, searched(lr, seed)) for lr in (0.01, 0.02) for seed in (0, 1)]).families
    assert family.key == replace(PLAIN, rest="_search")
    assert len(family.runs) == len(family.swept) == 2
