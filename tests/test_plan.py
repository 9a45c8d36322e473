"""A plan becomes exactly the items it says, and whatever is wrong in it is told with file, line, key and remedy."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.config import CentralizedConfig, FederatedConfig, tuned_lr
from fedspec.config.checks import MAX_NAME
from fedspec.errors import CapabilityError, DamagedError, UsageError
from fedspec.federated.aggregators import AGGREGATORS, LORA
from fedspec.jobs import VOCABULARY
from fedspec.plan import (
    Item,
    Plan,
    Role,
    Setting,
    decoded,
    effective,
    encoded,
    load,
    make_item,
    published_names,
    same_experiment,
)

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
METHODS = [name for name, entry in AGGREGATORS.items() if entry.traits >= LORA]


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Expand a plan's text, with overrides as ``key=value``."""

    def expand(text: str, **overrides: Any) -> Plan:
        flags = {key: Setting(value, f"--{key}") for key, value in overrides.items()}
        return load(write(tmp_path, text), VOCABULARY, flags)

    return expand


def item(**config: Any) -> Item:
    return make_item("federated", FederatedConfig(**{"lr": tuned_lr("fedavg"), **config}))


# What is shipped


def test_the_distributed_plan_has_the_names_that_a_user_of_the_original_expects():
    plan = load(EXPERIMENTS / "distributed.toml", VOCABULARY)
    grid = [f"{method}_dirichlet_alpha{alpha}" for alpha in ("0.1", "0.5", "1.0") for method in ("fedavg", "fedspec")]
    assert [i.exp for i in plan.items] == [*grid, "centralized"]


@pytest.mark.parametrize(("name", "count"), [("quick", 9), ("distributed", 7), ("paper", 50)])
def test_a_shipped_plan_holds_the_whole_grid(name: str, count: int):
    plan = load(EXPERIMENTS / f"{name}.toml", VOCABULARY)
    assert len(plan.items) == len(plan.ids) == len({i.exp for i in plan.items}) == count
    assert plan.name == name


def test_an_experiment_has_one_name_in_whatever_plan_it_is():
    known: dict[str, Item] = {}
    for path in EXPERIMENTS.glob("*.toml"):
        for one in load(path, VOCABULARY).items:
            assert known.setdefault(one.exp, one) == one


# Expansion


@given(
    st.lists(st.sampled_from(METHODS), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([0.05, 0.1, 1.0, 10]), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True),
    st.booleans(),
)
def test_a_grid_becomes_one_item_for_each_combination(
    tmp_path_factory: pytest.TempPathFactory, methods: list[str], alphas: list[float], seeds: list[int], central: bool
):
    text = f"centralized = {str(central).lower()}\n[grid]\nmethod = {methods}\nalpha = {alphas}\nseed = {seeds}\n"
    plan = load(write(tmp_path_factory.mktemp("plan"), text), VOCABULARY)
    spanned = {(i.config["method"], i.config["alpha"], i.config["seed"]) for i in plan.items if i.kind == "federated"}
    assert spanned == {(m, a, s) for m in methods for a in alphas for s in seeds}
    assert len(plan.items) == len(spanned) + central * len(seeds)
    assert len(plan.ids) == len(plan.items)


def test_whole_numbers_and_decimals_are_one_alpha(read: Any):
    assert read("[grid]\nalpha = [1]").items == read("[grid]\nalpha = [1.0]").items


def test_every_item_holds_every_key(read: Any):
    for one in read("centralized = true").items:
        kind = {"federated": FederatedConfig, "centralized": CentralizedConfig}[one.kind]
        assert one.config.keys() == {f.name for f in msgspec.structs.fields(kind)}


def test_an_iid_split_has_no_alpha(read: Any):
    plan = read('[experiment]\nsplit = "iid"\n[grid]\nmethod = ["fedavg"]\nalpha = [0.1, 0.5]')
    assert [(i.exp, i.config["alpha"]) for i in plan.items] == [("fedavg_iid", None)]


def test_a_method_s_section_changes_its_own_items_only(read: Any):
    plan = read("[experiment]\nlr = 0.5\n[method.fedspec]\nlr = 0.25")
    assert {i.config["method"]: i.config["lr"] for i in plan.items} == {"fedavg": 0.5, "fedspec": 0.25}


def test_the_baseline_can_be_changed_and_pinned_to_a_machine(read: Any):
    plan = read('[experiment]\nrounds = 3\nclients = 4\n[centralized]\nlr = 0.5\nmachine = "Mac"')
    baseline = plan.items[-1]
    assert (baseline.kind, baseline.config["rounds"], baseline.config["lr"]) == ("centralized", 3, 0.5)
    assert baseline.needs == ["machine:Mac"]


def test_a_device_that_is_asked_for_is_needed(read: Any):
    assert read('[experiment]\ndevice = "cuda"').items[0].needs == ["cuda"]
    assert read("").items[0].needs == []


# Where values come from


def test_a_flag_overrides_the_plan_and_the_plan_the_defaults(read: Any):
    text = "[experiment]\nrounds = 3\nclients = 4\n[grid]\nseed = [1, 2]\n[method.fedavg]\nlr = 0.5"
    plan = read(text, rounds=7, seed=[9], lr=0.125)
    config = plan.items[0].config
    assert (config["rounds"], config["clients"], config["batch_size"], config["seed"], config["lr"]) == (7, 4, 16, 9, 0.125)
    sources = {key: plan.settings[key].source for key in ("rounds", "clients", "batch_size", "seed", "lr", "alpha")}
    assert sources == {
        "rounds": "--rounds", "clients": "plan mine.toml", "batch_size": "default", "seed": "--seed", "lr": "--lr",
        "alpha": "default",
    }  # fmt: skip


def test_what_one_method_or_the_baseline_does_differently_is_shown_with_its_source(read: Any):
    plan = read("[grid]\nmethod = ['fedavg', 'fedspec']\n[method.fedspec]\nbatch_size = 32\n[centralized]\nlr = 0.007\n")
    assert plan.settings["batch_size"].value == {"fedavg": 16, "fedspec": 32}
    assert plan.settings["batch_size"].source == "plan mine.toml"
    assert plan.settings["centralized.lr"].value == 0.007
    assert plan.settings["centralized.lr"].source == "plan mine.toml"
    assert plan.settings["rank"].source == "default"


@pytest.mark.parametrize("section", ["method.fedspec", "centralized"])
def test_names_in_every_section_are_checked(read: Any, section: str):
    with pytest.raises(UsageError, match="model 'nope' is unknown"):
        read(f"[{section}]\nmodel = 'nope'\n")


def test_the_shown_settings_are_the_values_that_the_items_have(read: Any):
    plan = read("[experiment]\nbatch_size = 32\n[method.fedspec]\nlr = 0.25", clients=3)
    for one in plan.items:
        for key in one.config.keys() - {"method", "alpha", "seed", "lr", "engine"}:
            assert plan.settings[key].value == one.config[key]
        assert plan.settings["lr"].value[one.config["method"]] == one.config["lr"]
    assert plan.settings["lr"].source == "plan mine.toml"
    assert "measured when enqueued" in plan.settings["engine"].value
    assert plan.undecided == plan.ids


@pytest.mark.parametrize("section", ["experiment", "method.fedspec"])
def test_an_engine_is_decided_where_a_person_names_one(read: Any, section: str):
    plan = read(f'[{section}]\nengine = "stacked"')
    named = [item for item in plan.items if section == "experiment" or item.config["method"] == "fedspec"]
    assert [item.config["engine"] for item in named] == ["stacked"] * len(named)
    assert plan.undecided == plan.ids - {item.id for item in named}
    auto = read(f'[{section}]\nengine = "auto"')
    assert auto.undecided == auto.ids


def test_a_named_engine_leaves_the_centralized_baseline_as_it_is(read: Any):
    for plan in (read("centralized = true", engine="stacked"), read('centralized = true\n[experiment]\nengine = "stacked"')):
        engines = {(item.kind, item.config["engine"]) for item in plan.items}
        assert engines == {("federated", "stacked"), ("centralized", "sequential")}


@pytest.mark.parametrize(
    ("key", "value"), [("rounds", 0), ("alpha", [-1.0]), ("seed", []), ("method", ["fedsgd"]), ("dataset", "cifar")]
)
def test_a_wrong_flag_is_told_by_its_name_and_not_by_a_line(read: Any, key: str, value: Any):
    with pytest.raises(UsageError, match=f"^--{key}: "):
        read("[grid]\nalpha = [0.5]", **{key: value})


# Mistakes

GRID = "[grid]\n"
MISTAKES: dict[str, tuple[str, int | None, str, str]] = {
    # what: (the plan, the line that is named, words of the complaint, words of the remedy)
    "alpha 0": (GRID + "alpha = [0]", 2, "alpha must be greater than 0, not 0.0", "0.1"),
    "alpha below 0": (GRID + "alpha = [0.1, -0.5]", 2, "alpha must be greater than 0, not -0.5", "0.1"),
    "alpha infinite": (GRID + "alpha = [inf]", 2, "alpha must be greater than 0", "100"),
    "alpha nan": (GRID + "alpha = [nan]", 2, "alpha must be greater than 0", "100"),
    "alpha too odd for a name": (GRID + "alpha = [1e16]", 1, "file name", "plainer"),
    "alpha a word": (GRID + 'alpha = ["small"]', 2, "alpha", "docs/formats.md"),
    "alpha true": (GRID + "alpha = [true]", 2, "alpha", "docs/formats.md"),
    "alpha no list": (GRID + "\nalpha = 0.5", 3, "alpha must be a list", "alpha = [0.5]"),
    "alpha outside the grid": ("[experiment]\nalpha = 0.5", 2, "alpha is a list to span", "[grid]: alpha = [0.5]"),
    "alpha in a method": ("[grid]\nalpha = [1]\n[method.fedavg]\nalpha = 0.5", 4, "alpha is a list to span", "[grid]"),
    "seed in the baseline": ("[grid]\nseed = [1]\n[centralized]\nseed = 2", 4, "seed is a list to span", "[grid]"),
    "no seed": (GRID + "seed = []", 2, "seed must be a list with at least one value", "seed = [42]"),
    "a seed twice": (GRID + "seed = [42, 42]", 1, "twice", "once"),
    "a seed below 0": (GRID + "seed = [-1]", 2, "seed must be from 0", "42"),
    "a seed too large": (GRID + f"seed = [{2**64}]", 2, "seed must be from 0", "42"),
    "an unknown method": (GRID + 'method = ["fedavg", "fedsgd"]', 2, "method 'fedsgd' is unknown", "fedavg, "),
    "a method that is a list": (GRID + 'method = [["fedavg"]]', 2, "is unknown", "fedavg, "),
    "an unknown method's section": ("[method.fedsgd]\nlr = 1", 1, "method 'fedsgd' is unknown", "fedavg, "),
    "a method's section that is none": ("[method]\nfedavg = 3", 2, "method.fedavg is not a table", "[method.fedavg]"),
    "an unknown data set": ('[experiment]\ndataset = "cifar"', 2, "dataset 'cifar' is unknown", "digits"),
    "an unknown model": ('[experiment]\nmodel = "gpt"', 2, "model 'gpt' is unknown", "mlp"),
    "texts for a model of images": ('[experiment]\ndataset = "sst2"\nmodel = "cnn"', 3, "cnn reads images", "reads texts"),
    "images for a model of texts": ('[experiment]\ndataset = "mnist"\nmodel = "bert"', 3, "bert reads texts", "reads images"),
    "adapters of a model without a place for them": ('[experiment]\nmodel = "resnet8"', 2, "no linear layer", 'tune = "full"'),
    "weights of a model that has none": ('[experiment]\npretrained = "x"', 2, "mlp is made from no weights", "Leave"),
    "arrays of one's own without a file": ('[experiment]\ndataset = "npz"', 2, "npz does not say which file", "data_file"),
    "a file of a data set that is none": ('[experiment]\ndata_file = "x.npz"', 2, "digits is no file of yours", '"npz"'),
    "less than no samples": ("[experiment]\ntrain_samples = -1", 2, "train_samples must be 0 (all) or more", "4000"),
    "an unknown key": ("[experiment]\nround = 3", 2, "unknown field `round`", "docs/formats.md"),
    "an unknown key of a method": ("[method.fedavg]\nround = 3", 2, "unknown field `round`", "docs/formats.md"),
    "an unknown key of the grid": (GRID + "clients = [5, 10]", 2, "'clients' cannot be spanned", "method, alpha, seed"),
    "an unknown section": ("[experiments]\nrounds = 3", 1, "'experiments' is unknown", "experiment, grid"),
    "an unknown top key": ("rounds = 3", 1, "'rounds' is unknown", "experiment, grid"),
    "a section that is a value": ("grid = 3", 1, "grid is not a table", "[grid]"),
    "a baseline that is a word": ('centralized = "yes"', 1, "centralized is not a table", "[centralized]"),
    "rounds a word": ('[experiment]\nrounds = "many"', 2, "rounds", "docs/formats.md"),
    "rounds 0": ("[experiment]\n\nrounds = 0", 3, "rounds must be at least 1, not 0", "from 1"),
    "half a client": ("[experiment]\nclients = 2.5", 2, "clients", "docs/formats.md"),
    "an unknown split": ('[experiment]\nsplit = "random"', 2, "random", "docs/formats.md"),
    "lr 0": ("[experiment]\nlr = 0.0", 2, "lr must be greater than 0, not 0.0", "0.01"),
    "lr wrong in the second place": ("[experiment]\nlr = 0.1\n[method.fedspec]\nlr = -1", 4, "lr must be greater", "0.01"),
    "lr of the baseline": ("[experiment]\nlr = 0.1\n[centralized]\nlr = -1", 4, "lr must be greater", "0.01"),
    "weight decay nan": ("[experiment]\nweight_decay = nan", 2, "weight_decay must be 0 or more", "0.01"),
    "lora_alpha 0": ("[experiment]\nlora_alpha = 0", 2, "lora_alpha must be greater than 0", "8"),
    "a dropout of 1": ("[experiment]\nlora_dropout = 1", 2, "lora_dropout must be in [0, 1)", "0.1"),
    "a max_rank below the rank": ('[experiment]\nrank_rule = "energy"\nrank = 8\nmax_rank = 4', 4, "below rank 8", "Raise"),
    "a threshold of 1": ("[experiment]\ntail_threshold = 1.0", 2, "tail_threshold must be in (0, 1)", "0.05"),
    "nothing kept": ("[experiment]\nkept_energy = 0.0", 2, "kept_energy must be in (0, 1]", "0.9"),
    "a correction without bounds": ("[experiment]\nfair_weight = 0.0", 2, "fair_weight must be greater than 0", "0.01"),
    "what is specific turned round": ("[experiment]\nsparse_scale = -1.0", 2, "sparse_scale must be 0 or more", "2"),
    "a rank of nothing": ("[experiment]\nranks = [4, 0]", 2, "from 1 to 4096, not [4, 0]", "ranks = [2, 4, 8]"),
    "ranks of nobody": ("[experiment]\nclients = 2\nranks = [4, 2, 1]", 3, "at most one for each client", "ranks = [2, 4, 8]"),
    "ranks that are text": ('[experiment]\nranks = ["4"]', 2, "ranks", "docs/formats.md"),
    "ranks of their own that grow": (
        '[experiment]\nrank_rule = "energy"\nranks = [4, 2]',
        3,
        "rank_rule energy gives all the same",
        "Leave",
    ),
    "ranks of full weights": (
        '[experiment]\ntune = "full"\nranks = [4, 2]\n[grid]\nmethod = ["fedavg"]',
        3,
        "tuned in full",
        "Leave",
    ),
    "ranks of their own together": (
        '[experiment]\nengine = "stacked"\nranks = [4, 2]\n[grid]\nmethod = ["flexlora"]',
        2,
        "trains clients of one rank together",
        "sequential",
    ),
    "ranks of one A for all": (
        '[experiment]\nranks = [4, 2]\n[grid]\nmethod = ["ffa"]',
        2,
        "ffa does not aggregate adapters of different ranks",
        "flexlora",
    ),
    "a clip below 0": ("[experiment]\nclip = -1.0", 2, "clip must be 0 or more", "0.01"),
    "noise of no size": ("[experiment]\nnoise = 1.0", 2, "noise hides updates of a bounded size only", "clip = 1.0"),
    "a delta of 1": ("[experiment]\ndelta = 1.0", 2, "delta must be in (0, 1)", "well below one"),
    "noise beside a rank that tells": (
        '[experiment]\nclip = 1.0\nnoise = 1.0\nrank_rule = "energy"\n[grid]\nmethod = ["fedavg"]',
        4,
        "rank_rule would tell what the noise hides",
        "Leave rank_rule or noise out",
    ),
    "variates of clipped updates": (
        '[experiment]\nclip = 1.0\ntune = "full"\noptimizer = "sgd"\n[grid]\nmethod = ["scaffold"]',
        2,
        "scaffold corrects clients by whole updates",
        "fedavg",
    ),
    "noise that a method sees through": (
        '[experiment]\nclip = 1.0\nnoise = 1.0\n[grid]\nmethod = ["fedspec"]',
        3,
        "fedspec looks at more than the mean",
        "fedsvd",
    ),
    "momentum of AdamW": (
        "[experiment]\nmomentum = 0.9",
        2,
        "momentum is SGD's, and the optimizer is adamw",
        'optimizer = "sgd"',
    ),
    "more clients than there are": ("[experiment]\nparticipation = 1.5", 2, "participation must be in (0, 1]", "0.2"),
    "a pull away": ("[experiment]\nprox = -1", 2, "prox must be 0 or more", "0.01"),
    "a server that never forgets": ("[experiment]\nserver_momentum = 1.0", 2, "server_momentum must be in [0, 1)", "0.9"),
    "a rank of full weights": (
        '[experiment]\ntune = "full"\nrank_rule = "energy"\n[grid]\nmethod = ["fedavg"]',
        3,
        "there is no rank to grow",
        "rank_rule",
    ),
    "momentum in a growing rank": (
        '[experiment]\nserver = "adam"\nserver_lr = 0.01\nrank_rule = "energy"\n[grid]\nmethod = ["fedavg"]',
        2,
        "in a rank that grows",
        "fixed",
    ),
    "full weights by SVD": (
        '[experiment]\ntune = "full"\n[grid]\nmethod = ["fedspec"]',
        2,
        "fedspec does not aggregate full",
        '"lora"',
    ),
    "variates of adapters": (
        '[experiment]\ntune = "lora"\n[grid]\nmethod = ["scaffold"]',
        2,
        "scaffold does not aggregate adapters",
        '"full"',
    ),
    "variates with AdamW": (
        '[experiment]\noptimizer = "adamw"\ntune = "full"\n[grid]\nmethod = ["scaffold"]',
        2,
        "scaffold is defined for plain SGD",
        '"sgd"',
    ),
    "variates with a proximal term": (
        '[experiment]\noptimizer = "sgd"\nprox = 0.1\ntune = "full"\n[grid]\nmethod = ["scaffold"]',
        3,
        "corrections know nothing of prox",
        "fedavg",
    ),
    "variates with a server optimizer": (
        '[experiment]\noptimizer = "sgd"\nserver = "momentum"\ntune = "full"\n[grid]\nmethod = ["scaffold"]',
        3,
        "corrections know nothing of server momentum",
        "fedavg",
    ),
    "Adam's steps at the rate of averaging": ('[experiment]\nserver = "adam"', 2, "and that is 1.0", "0.01"),
    "momentum of an SVD": (
        '[experiment]\nserver = "momentum"\n[grid]\nmethod = ["fedspec"]',
        2,
        "fedspec gives the adapters new coordinates",
        "average",
    ),
    "not TOML": ("[experiment]\nrounds = = 3", None, "is no TOML file", "Correct it"),
    "TOML with a key twice": ("[experiment]\nrounds = 3\nrounds = 4", None, "is no TOML file", "Correct it"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_file_line_key_and_remedy(read: Any, tmp_path: Path, mistake: str):
    text, line, complaint, remedy = MISTAKES[mistake]
    with pytest.raises(UsageError) as caught:
        read(text)
    assert caught.value.what.startswith(f"{tmp_path / 'mine.toml'}" + (f", line {line}:" if line else " "))
    assert complaint in caught.value.what
    assert remedy in caught.value.fix
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\0", b"[experiment"])
def test_a_file_that_is_no_text_is_told(tmp_path: Path, data: bytes):
    (tmp_path / "mine.toml").write_bytes(data)
    with pytest.raises(UsageError, match=r"mine\.toml is no TOML file"):
        load(tmp_path / "mine.toml", VOCABULARY)


def test_a_missing_plan_and_a_folder_are_told(tmp_path: Path):
    with pytest.raises(UsageError, match="There is no plan file"):
        load(tmp_path / "none.toml", VOCABULARY)
    with pytest.raises(UsageError):
        load(tmp_path, VOCABULARY)


def test_a_name_that_is_too_long_for_a_file_is_told(read: Any):
    keys = (
        "batch_size = 123456\nlocal_epochs = 123456\nlora_alpha = 0.123456789\nlora_dropout = 0.123456789\nthreads = 123456\n"
        "prox = 0.123456789\nweight_decay = 0.123456789\n"
    )
    with pytest.raises(UsageError, match="too long"):
        read(f"[experiment]\n{keys}rounds = 1234\nclients = 123456\ntail_threshold = 0.123456789\nmin_client_samples = 1234\n")


# Items

CONFIGS = st.builds(
    FederatedConfig,
    method=st.sampled_from(METHODS),
    alpha=st.none() | st.floats(0.01, 100),
    seed=st.integers(0, 2**31 - 1),
    lr=st.floats(1e-6, 1),
    rounds=st.integers(1, 1000),
)


def fits(config: FederatedConfig) -> bool:
    return "e+" not in config.name


@given(CONFIGS.filter(fits), st.lists(st.sampled_from(["cuda", "machine:Mac", "camera"]), max_size=2))
def test_an_item_survives_its_file(config: FederatedConfig, needs: list[str]):
    one = make_item("federated", config, needs)
    assert decoded(encoded(one), f"p-{one.id}.json") == one
    assert effective(one) == config


@given(CONFIGS, CONFIGS)
def test_an_id_is_made_of_the_content_alone(one: FederatedConfig, other: FederatedConfig):
    assert (make_item("federated", one).id == make_item("federated", other).id) == (one == other)
    assert make_item("federated", one, ["cuda", "camera"]).id == make_item("federated", one, ["camera", "cuda"]).id


def test_any_flipped_bit_of_an_item_s_file_is_rejected():
    one = item()
    data = encoded(one)
    for position in range(len(data)):
        for bit in range(8):
            with pytest.raises(DamagedError):
                decoded(data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :], f"p-{one.id}.json")


def reframed(**changed: Any) -> tuple[bytes, str]:
    """The bytes of an item somebody else made up, under the name that they really have."""
    data = encoded(msgspec.structs.replace(item(), **changed))
    return data, f"p-{hashlib.sha256(data).hexdigest()[:12]}.json"


HOSTILE: dict[str, dict[str, Any]] = {
    "a name that leaves its folder": {"exp": "../../x"},
    "a name with a slash": {"exp": "a/b"},
    "a name that is empty": {"exp": ""},
    "a name that is too long": {"exp": "x" * 120},
    "rounds that are no number": {"config": {**item().config, "rounds": "many"}},
    "a seed that is no number": {"config": {**item().config, "seed": "x"}},
    "an alpha that is a list": {"config": {**item().config, "alpha": [1]}},
    "another format version": {"v": 2},
}


def test_the_longest_name_that_a_plan_may_have_is_one_that_an_item_may_have():
    one = msgspec.structs.replace(item(), exp="x" * MAX_NAME)
    assert decoded(encoded(one), f"p-{one.id}.json") == one
    longer = msgspec.structs.replace(item(), exp="x" * (MAX_NAME + 1))
    with pytest.raises(DamagedError):
        decoded(encoded(longer), f"p-{longer.id}.json")


@pytest.mark.parametrize("what", HOSTILE)
def test_an_item_that_would_do_harm_is_rejected_although_its_hash_is_right(what: str):
    with pytest.raises(DamagedError):
        decoded(*reframed(**HOSTILE[what]))


@pytest.mark.parametrize("names", [["eye"], ["eye", "ear"], ["root", "root"], ["root", "eye", "eye"], ["root", ""]], ids=str)
def test_roles_that_nobody_could_fill_are_refused(names: list[str]):
    with pytest.raises(UsageError) as caught:
        make_item("federated", FederatedConfig(), roles=[Role(name=name) for name in names])
    assert caught.value.fix


@pytest.mark.parametrize("names", [[], ["root"], ["root", "eye", "ear"]], ids=str)
def test_roles_are_a_root_and_others_each_with_a_name_of_its_own(names: list[str]):
    gang = make_item("federated", FederatedConfig(), roles=[Role(name=name) for name in names])
    assert decoded(encoded(gang), f"p-{gang.id}.json").members == gang.members


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"kind":3}', b'"\xff"', b"[" * 99999, b'{"config":' * 9999])
def test_what_is_no_item_is_rejected(data: bytes):
    with pytest.raises(DamagedError) as caught:
        decoded(data)
    assert caught.value.fix


def test_an_item_that_was_written_in_another_way_is_not_taken_under_two_ids():
    data = msgspec.json.format(encoded(item()), indent=1)
    with pytest.raises(DamagedError):
        decoded(data)


def test_an_item_of_a_kind_that_a_later_version_knows_is_kept_and_cannot_run():
    later, name = reframed(kind="gang", science_version=7)
    with pytest.raises(CapabilityError, match="unknown kind 'gang'"):
        effective(decoded(later, name))


def test_keys_that_a_later_version_added_take_their_default():
    one = item(rounds=3)
    older = msgspec.structs.replace(one, config={key: one.config[key] for key in ("method", "rounds", "lr")})
    assert effective(older) == effective(one)
    assert older.id != one.id
    assert same_experiment(older, one)


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "gang"},
        {"science_version": 2},
        {"needs": ["cuda"]},
        {"config": {**item().config, "seed": 7}},
        {"config": {"x": 1}},
    ],
    ids=str,
)
def test_another_kind_version_need_or_value_is_another_experiment(changed: dict[str, Any]):
    assert same_experiment(item(), item())
    assert not same_experiment(item(), msgspec.structs.replace(item(), **changed))


@given(
    st.lists(
        st.sampled_from([item(seed=1), item(seed=1, weight_decay=0.5), item(seed=2)]), max_size=3, unique_by=lambda i: i.id
    )
)
def test_a_name_that_is_used_once_is_published_as_it_is(items: list[Item]):
    assert published_names(items) == {i.id: i.exp for i in items}


@given(st.permutations([msgspec.structs.replace(item(), config={**item().config, "lora_dropout": d}) for d in (0.1, 0.2, 0.3)]))
def test_of_items_that_met_under_one_name_only_the_lowest_hash_keeps_it(twins: list[Item]):
    names = published_names(twins)
    lowest, *others = sorted(twins, key=lambda i: i.id)
    assert names[lowest.id] == lowest.exp
    assert [names[i.id] for i in others] == [f"{i.exp}_{i.id[:6]}" for i in others]


def test_numbers_that_json_does_not_know_never_reach_an_item(read: Any):
    for number in (math.nan, math.inf, -math.inf):
        for key in ("lr", "weight_decay", "lora_alpha", "lora_dropout", "tail_threshold"):
            with pytest.raises(UsageError, match=key):
                read("", **{key: number})
