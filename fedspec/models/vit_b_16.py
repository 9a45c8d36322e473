"""torchvision's ViT-B/16 with its ImageNet weights, for images of any size (Dosovitskiy et al. 2021, arXiv 2010.11929)."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.data.torchvision_compat import torchvision
from fedspec.downloads import fetching
from fedspec.errors import CapabilityError, ExperimentError, brief
from fedspec.models.base import image_shape
from fedspec.models.pretrained import FOLDER, PretrainedModel, on_this_machine
from fedspec.models.vit import Attention


class ViTB16(PretrainedModel):
    """86 million parameters, of which LoRA adapts query and value of each of the twelve blocks, with a new linear head.

    torchvision's attention keeps query, key and value in one parameter that no module owns, and reads its output layer's
    weight without calling the layer, so that of its linear layers only the two of each MLP could carry an adapter. Query and
    value are the pair that LoRA's authors adapt (Hu et al. 2021, arXiv 2106.09685, section 7.1). So the attention is replaced
    by `Attention`, which has a layer for each; with the same weights it computes the same.

    The images are resized to 224 x 224 on their way in, and a single channel stands for all three.
    """

    default = "vit_b_16-c867db91.pth"
    evaluation_batch = 32

    def __init__(self, input_shape: tuple[int, ...], classes: int, weights: Path) -> None:
        super().__init__(input_shape, classes, weights)
        channels, _, _ = image_shape("vit_b_16", input_shape)
        if channels not in (1, 3):
            raise ExperimentError(
                f"vit_b_16 takes images with 1 or 3 channels, and the samples have {channels}.", "Use another model."
            )
        self.vit = self.network()
        self.head = ("vit.heads",)
        self._read(weights)
        blocks = self.vit.get_submodule("encoder.layers")
        for block in blocks.children():
            setattr(block, "self_attention", _SelfAttention(block.get_submodule("self_attention")))  # noqa: B010
        self.lora_targets = tuple(
            f"vit.encoder.layers.{name}.self_attention.{layer}"
            for name, _ in blocks.named_children()
            for layer in ("query", "value")
        )
        setattr(self.vit, "heads", nn.Linear(self.vit.hidden_dim, classes))  # noqa: B010
        self.loaded = frozenset(name for name in self.state_dict() if not name.startswith("vit.heads."))

    @classmethod
    def network(cls) -> Any:
        """torchvision's own, with values that are about to be replaced."""
        return torchvision.models.vit_b_16()

    @classmethod
    def locate(cls, name: str, root: Path | None) -> Path:
        """A file as torchvision saves it: named, else ImageNet's in the data folder or in torch's own cache."""
        named = on_this_machine(name or cls.default, root)
        if named is not None and named.is_file():
            return named
        place = Path(torch.hub.get_dir()) / "checkpoints" if root is None else root / FOLDER
        if name:
            raise CapabilityError(
                f"There are no weights {name} on this machine.",
                f"Put them into {place}, or leave pretrained out for ImageNet's.",
            )
        cached = Path(torch.hub.get_dir()) / "checkpoints" / cls.default
        if not cached.is_file():
            cached = place / cls.default
            with fetching(
                "ViT-B/16 with its ImageNet weights", place / f".{cls.default}.lock", f"Put {cached.name} into {place}"
            ):
                if not cached.is_file():
                    official = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1
                    torch.hub.download_url_to_file(official.url, str(cached), hash_prefix="c867db91", progress=False)
        return cached

    def _read(self, weights: Path) -> None:
        """Take over what the file has of everything but the head."""
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            body = {name: value for name, value in state.items() if not name.startswith("heads.")}
            missing, unexpected = self.vit.load_state_dict(body, strict=False)
            wrong = [*unexpected, *(name for name in missing if not name.startswith("heads."))]
            if wrong:
                raise ValueError(f"it differs in {wrong[0]}")
        except (OSError, EOFError, RuntimeError, ValueError, AttributeError, pickle.UnpicklingError) as error:
            raise CapabilityError(
                f"{weights} holds no weights of torchvision's ViT-B/16: {brief(error)}.",
                "Delete it, so that it is downloaded again, or name another file.",
            ) from error

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs: (batch, 1 or 3, height, width)`` to logits ``(batch, classes)``."""
        size = self.vit.image_size
        images = F.interpolate(inputs, size=(size, size), mode="bilinear", align_corners=False)
        logits: Tensor = self.vit(images.expand(-1, 3, -1, -1))
        return logits


class _SelfAttention(Attention):
    """The weights of a `torch.nn.MultiheadAttention`, in layers of their own, called as that one is."""

    def __init__(self, packed: Any) -> None:
        super().__init__(packed.embed_dim, packed.num_heads)
        layers = zip(
            (self.query, self.key, self.value), packed.in_proj_weight.chunk(3), packed.in_proj_bias.chunk(3), strict=True
        )
        with torch.no_grad():
            for layer, weight, bias in (*layers, (self.out, packed.out_proj.weight, packed.out_proj.bias)):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:  # type: ignore[override]
        return super().forward(query), None
