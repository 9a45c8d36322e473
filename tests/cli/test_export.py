"""``fedspec export``: the last saved round as files for PEFT."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import TINY, TINY_NAME, Place, items
from tests.tinyweights import transformers


def test_an_experiment_that_is_done_is_exported_from_what_is_left_of_its_checkpoints(place: Place):
    transformers()
    assert place.fedspec("run", "quick", *TINY).code == 0
    assert not list((place.root / "checkpoints_distributed" / "gen" / TINY_NAME).glob("*.pt")), "the copy is not all there is"
    said = place.fedspec("export", TINY_NAME, "--output", "mine")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        f"{TINY_NAME} after round 1 of 1: adapters of 2 layers in mine",
        "from peft import PeftModel",
        "from fedspec.models import MODELS",
        "model = MODELS['mlp'].load()(input_shape, classes)  # as the data set has them",
        f"model.load_state_dict(safetensors.torch.load_file({str(Path('mine', 'base_model.safetensors'))!r}))",
        "model = PeftModel.from_pretrained(model, 'mine')",
    ]
    about = json.loads((place.root / "mine" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (about["peft_type"], about["r"], about["lora_alpha"]) == ("LORA", 4, 8.0)
    assert sorted(about["target_modules"]) == ["hidden.0", "hidden.1"]
    document = place.fedspec("export", TINY_NAME, "--output", "mine", "--json").json
    assert (document["experiment"], document["round"], document["rounds"]) == (TINY_NAME, 1, 1)
    assert sorted(document["files"]) == [
        str(Path("mine", name)) for name in ("adapter_config.json", "adapter_model.safetensors", "base_model.safetensors")
    ]


def test_what_has_not_begun_has_nothing_to_export(place: Place):
    place.machine("Mac").enqueue(items())
    said = place.fedspec("export", "fedspec_dirichlet_alpha0.5", "--output", "mine")
    assert said.code == 3
    assert said.err == "error: No saved round of fedspec_dirichlet_alpha0.5 is here.\n  fix: Train it first: fedspec work.\n"
    assert not (place.root / "mine").exists()


@pytest.mark.parametrize(("name", "what"), [("fedspec*", "matches 3 items"), ("nope", "nope")])
def test_one_experiment_is_named(place: Place, name: str, what: str):
    place.machine("Mac").enqueue(items())
    said = place.fedspec("export", name, "--output", "mine")
    assert said.code == 2
    assert what in said.err


def test_full_weights_are_no_adapter(place: Place):
    plan = place.root / "full.toml"
    plan.write_text('[experiment]\ntune = "full"\nrounds = 1\nclients = 2\n[grid]\nmethod = ["fedavg"]\n', encoding="utf-8")
    place.fedspec("run", "full.toml")
    said = place.fedspec("export", "fedavg*", "--output", "mine")
    assert said.code == 1
    assert "there is no adapter" in said.err


def test_without_the_extra_the_remedy_installs_it(place: Place, monkeypatch: pytest.MonkeyPatch):
    place.fedspec("run", "quick", *TINY)
    monkeypatch.setitem(sys.modules, "transformers", None)
    said = place.fedspec("export", TINY_NAME, "--output", "mine")
    assert said.code == 3
    assert said.err.endswith('fix: pip install "fedspec[text]".\n')
    assert not (place.root / "mine").exists()
