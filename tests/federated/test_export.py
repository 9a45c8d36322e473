"""An exported adapter computes in PEFT what it computes here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedspec.cli.export import write
from fedspec.config import FederatedConfig
from fedspec.errors import ExperimentError
from fedspec.federated.events import RoundDone
from fedspec.federated.experiment import Experiment, prepare
from fedspec.federated.export import to_peft
from fedspec.federated.rounds import rounds
from fedspec.federated.state import Weights
from fedspec.models import MODELS
from fedspec.tokens import FILLING
from tests.data.conftest import write_sst2
from tests.tinyweights import TinyViT, transformers, write_bert, write_vit

# Of PEFT, about its own use of the library beside it.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def trained(data_root: Path | None = None, **changes: Any) -> tuple[Experiment, Weights]:
    values = {"clients": 3, "rounds": 3, "batch_size": 64, "lr": 0.02, "rank": 3, "lora_alpha": 5.0, **changes}
    experiment = prepare(FederatedConfig(**values), device="cpu", data_root=data_root)
    *_, last = (event for event in rounds(experiment) if isinstance(event, RoundDone))
    return experiment, Weights.from_state(last.state)


def expected(experiment: Experiment, weights: Weights) -> Tensor:
    experiment.resident.install(weights)
    with torch.no_grad():
        return experiment.resident.module.eval()(experiment.test.inputs[:50])


def loaded(plain: nn.Module, experiment: Experiment, weights: Weights, folder: Path) -> nn.Module:
    """``plain`` with what was exported, as somebody without this package loads it."""
    transformers()
    import peft
    from safetensors.torch import load_file

    adapter = to_peft(experiment.config, weights, experiment.base)
    files = write(adapter, None, folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in files}
    if adapter.base:
        plain.load_state_dict(load_file(folder / "base_model.safetensors"))
    module: nn.Module = peft.PeftModel.from_pretrained(plain, str(folder)).eval()
    return module


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "fedspec"},
        {"method": "fedavg", "head": "aggregate"},
        {"method": "fedex"},
        {"method": "fedspec_residual", "head": "aggregate"},
        {"method": "flora"},
        {"method": "rolora"},
        {"method": "fedspec", "rank_rule": "energy", "max_rank": 7, "tail_threshold": 1e-6},
        {"method": "fedex", "model": "vit", "head": "aggregate", "rounds": 2},
        {"method": "fedspec", "model": "cnn", "rounds": 1},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_own_models_have_the_same_logits_in_peft(changes: dict[str, Any], tmp_path: Path):
    experiment, weights = trained(**changes)
    plain = MODELS[experiment.config.model].load()((1, 8, 8), 10)
    module = loaded(plain, experiment, weights, tmp_path)
    torch.testing.assert_close(module(experiment.test.inputs[:50]), expected(experiment, weights), rtol=1e-5, atol=1e-5)


def test_what_was_folded_into_the_base_becomes_further_directions():
    experiment, weights = trained(method="fedex")
    settings = to_peft(experiment.config, weights, experiment.base).settings
    assert settings["r"] == 3
    assert settings["lora_alpha"] == 5.0
    assert settings["rank_pattern"].keys() == settings["alpha_pattern"].keys() == weights.delta.keys()
    for name, rank in settings["rank_pattern"].items():
        assert rank > 3
        assert settings["alpha_pattern"][name] / rank == pytest.approx(5.0 / 3)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Bert", {"head": "aggregate"}),
        ("Bert", {"head": "frozen"}),
        ("Bert", {"head": "aggregate", "method": "fedex"}),
        ("DistilBert", {"head": "aggregate"}),
        ("Roberta", {"head": "aggregate"}),
        ("Llama", {"head": "aggregate"}),
    ],
    ids=str,
)
def test_encoders_of_texts_have_the_same_logits_in_peft_on_the_weights_as_they_came(
    kind: str, changes: dict[str, Any], tmp_path: Path
):
    write_sst2(tmp_path)
    tiny = write_bert(tmp_path / "models" / "tiny", kind=kind)
    texts = {"dataset": "sst2", "model": "bert", "pretrained": "tiny", "rounds": 2}
    experiment, weights = trained(tmp_path, **texts, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(99)  # another head than the one that was trained
        plain = transformers().AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=2, pad_token_id=0)
    module = loaded(plain, experiment, weights, tmp_path / "out")
    ids = experiment.test.inputs[:50]
    logits = module(input_ids=ids.clamp(min=0), attention_mask=(ids != FILLING).long()).logits
    torch.testing.assert_close(logits, expected(experiment, weights), rtol=1e-5, atol=1e-5)
    assert to_peft(experiment.config, weights, experiment.base).classes == 2
    assert not (tmp_path / "out" / "base_model.safetensors").exists()


def test_a_vision_transformer_has_the_same_logits_in_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = write_vit(tmp_path / "models")
    monkeypatch.setattr(MODELS["vit_b_16"].load(), "network", TinyViT.network)
    experiment, weights = trained(tmp_path, model="vit_b_16", head="aggregate", rounds=1, train_samples=100)
    module = loaded(TinyViT((1, 8, 8), 10, file), experiment, weights, tmp_path / "out")
    torch.testing.assert_close(module(experiment.test.inputs[:50]), expected(experiment, weights), rtol=1e-5, atol=1e-5)


def test_a_model_that_was_tuned_in_full_has_no_adapter():
    experiment, weights = trained(tune="full", rounds=1, lr=0.001)
    with pytest.raises(ExperimentError, match="no adapter"):
        to_peft(experiment.config, weights, experiment.base)
