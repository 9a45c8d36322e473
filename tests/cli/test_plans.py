"""What flags and the environment change in a plan, and which of them wins."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from fedspec.cli.plans import FLAGS, overrides, plan_path, read_plan
from fedspec.config import FederatedConfig
from fedspec.errors import CapabilityError, UsageError
from tests.cli.conftest import Place

SHIPPED = [path.stem for path in (Path(__file__).parents[2] / "experiments").glob("*.toml")]


def values(flags: dict[str, object], environ: dict[str, str] | None = None) -> dict[str, object]:
    return {key: setting.value for key, setting in overrides(flags, environ or {}).items()}


def test_every_flag_is_a_key_of_the_configuration():
    assert set(FLAGS) <= {field.name for field in msgspec.structs.fields(FederatedConfig)}


def test_a_flag_has_the_type_of_its_key():
    given = {"rounds": "3", "lr": "0.5", "device": "cpu", "alpha": ["0.1,1", "10"], "method": ["fedavg, fedspec"]}
    assert values(given) == {
        "rounds": 3, "lr": 0.5, "device": "cpu", "alpha": [0.1, 1.0, 10.0], "method": ["fedavg", "fedspec"],
    }  # fmt: skip


def test_seeds_may_be_ranges():
    assert values({"seed": ["1,5-7"]})["seed"] == [1, 5, 6, 7]


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ({"rounds": "2.5"}, "--rounds must be a whole number, not '2.5'."),
        ({"lr": "big"}, "--lr must be a number, not 'big'."),
        ({"alpha": ["0.1,x"]}, "--alpha must be a number, not 'x'."),
        ({"seed": ["5-2"]}, "--seed: 5-2 is no range of seeds."),
        ({"seed": ["0-9999999"]}, "--seed: 0-9999999 is no range of seeds."),
        ({"local_epochs": "x"}, "--local-epochs must be a whole number, not 'x'."),
    ],
)
def test_a_wrong_value_names_its_flag(flags: dict[str, object], what: str):
    with pytest.raises(UsageError) as caught:
        overrides(flags, {})
    assert caught.value.what == what


def test_a_negative_seed_reaches_the_plan_which_complains():
    with pytest.raises(UsageError, match="--seed: seed must "):
        read_plan("quick", {"seed": ["-1"]})


def test_a_wrong_variable_is_named_like_a_wrong_flag():
    with pytest.raises(UsageError, match="FEDSPEC_ROUNDS must be a whole number, not 'x'"):
        overrides({}, {"FEDSPEC_ROUNDS": "x"})


def test_a_flag_wins_over_the_environment_and_that_over_the_plan():
    assert values({"rounds": "3"}, {"FEDSPEC_ROUNDS": "4", "FEDSPEC_CLIENTS": "6"}) == {"rounds": 3, "clients": 6}


def test_the_source_of_each_value_is_shown_in_the_order_of_precedence(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FEDSPEC_ROUNDS", "4")
    monkeypatch.setenv("FEDSPEC_CLIENTS", "6")
    said = place.fedspec("run", "quick", "--show-config", "--rounds", "3")
    sources = {line.split()[0]: line.split("  ")[-1].strip() for line in said.out.splitlines()}
    assert sources["rounds"] == "--rounds"
    assert sources["clients"] == "FEDSPEC_CLIENTS"
    assert sources["dataset"] == "plan quick.toml"
    assert sources["batch_size"] == "default"
    assert not list(place.root.iterdir())


def test_the_sources_are_there_for_programs_too(place: Place):
    settings = place.fedspec("run", "quick", "--show-config", "--json", "--seed", "1-2").json["settings"]
    assert settings["seed"] == {"value": [1, 2], "source": "--seed"}
    assert set(settings) == {field.name for field in msgspec.structs.fields(FederatedConfig)}


def test_a_plan_is_a_name_or_a_file(place: Place):
    mine = place.root / "experiments" / "mine.toml"
    mine.parent.mkdir()
    mine.write_text("", encoding="utf-8")
    assert plan_path("mine").resolve() == mine
    assert plan_path("quick").name == "quick.toml"
    with pytest.raises(UsageError) as caught:
        plan_path("nope")
    assert caught.value.fix == f"Use {', '.join(sorted([*SHIPPED, 'mine']))}, or the path of a TOML file."


class TestArraysOfOnesOwn:
    @pytest.fixture
    def data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("FEDSPEC_DATA", str(tmp_path / "data"))
        (tmp_path / "data").mkdir()
        return tmp_path / "data"

    def test_what_is_enqueued_names_the_bytes_of_the_file(self, data: Path):
        flags = {"dataset": "npz", "data_file": "mine.npz"}
        (data / "mine.npz").write_bytes(b"one")
        plan = read_plan("quick", flags)
        assert {item.config["data_digest"] for item in plan.items} == {hashlib.sha256(b"one").hexdigest()[:12]}
        assert plan.settings["data_digest"].source == "mine.npz"
        (data / "mine.npz").write_bytes(b"two")
        assert not plan.ids & read_plan("quick", flags).ids

    def test_a_file_that_is_not_here_cannot_be_enqueued_without_its_digest(self, data: Path):
        with pytest.raises(CapabilityError, match=r"There is no file .*mine\.npz"):
            read_plan("quick", {"dataset": "npz", "data_file": "mine.npz"})
        plan = data / "mine.toml"
        plan.write_text(
            f'[experiment]\ndataset = "npz"\ndata_file = "mine.npz"\ndata_digest = "{"0" * 12}"\n', encoding="utf-8"
        )
        assert {item.config["data_digest"] for item in read_plan(str(plan), {}).items} == {"0" * 12}

    def test_npz_without_a_file_is_told_when_the_plan_is_read(self):
        with pytest.raises(UsageError, match="--dataset: npz does not say which file"):
            read_plan("quick", {"dataset": "npz"})
