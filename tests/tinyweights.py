"""Pretrained models in small, as their libraries save them: an encoder of texts with its tokenizer, a vision transformer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fedspec.data.torchvision_compat import torchvision
from fedspec.errors import CapabilityError
from fedspec.federated.seeding import global_seed
from fedspec.models.bert import library
from fedspec.models.vit_b_16 import ViTB16

CPU = torch.device("cpu")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "number", '"', *map(str, range(10))]
SIZES = {
    "Bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    "DistilBert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4},
}


def transformers() -> Any:
    """The library; skips the test where the extra is not installed."""
    try:
        return library()
    except CapabilityError as error:
        pytest.skip(f"needs the extra text: {error.fix}")


def write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*WORDS, *(f"##{n}" for n in range(10))]) + "\n", encoding="utf-8")
    about = {"tokenizer_class": "BertTokenizer", "model_max_length": 16, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")


def write_bert(folder: Path, *, kind: str = "Bert", seed: int = 0, **changes: Any) -> Path:
    """An encoder with random values, and its tokenizer.

    Args:
        kind: as the library calls it.
        changes: to its configuration.
    """
    library = transformers()
    sizes = {"vocab_size": len(WORDS) + 10, "max_position_embeddings": 20, "pad_token_id": 0, **SIZES.get(kind, SIZES["Bert"])}
    config = getattr(library, f"{kind}Config")(**{**sizes, **changes})
    with global_seed(CPU, "tiny", seed):
        getattr(library, f"{kind}Model")(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


class TinyViT(ViTB16):
    """ViT-B/16 with fewer and narrower blocks, for 32 x 32."""

    @classmethod
    def network(cls) -> Any:
        return torchvision.models.VisionTransformer(
            image_size=32, patch_size=16, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=48
        )


def write_vit(folder: Path) -> Path:
    """Its weights, as torchvision saves them."""
    folder.mkdir(parents=True, exist_ok=True)
    with global_seed(CPU, "tiny", 0):
        torch.save(TinyViT.network().state_dict(), folder / TinyViT.default)
    return folder / TinyViT.default
