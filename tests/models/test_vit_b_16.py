"""ViT-B/16: torchvision's network with another attention, its weights, and what images it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fedspec.errors import CapabilityError, ExperimentError
from fedspec.models.vit_b_16 import ViTB16
from tests.tinyweights import TinyViT, write_vit


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_vit(tmp_path / "models")


def test_the_features_are_torchvisions(weights: Path):
    model = TinyViT((3, 32, 32), 5, weights).eval()
    original = TinyViT.network().eval()
    original.load_state_dict(torch.load(weights, weights_only=True))
    original.heads = model.get_submodule("vit.heads")
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(model(images), original(images), rtol=1e-5, atol=1e-6)


def test_images_are_resized_and_one_channel_stands_for_three(weights: Path):
    model = TinyViT((1, 8, 8), 5, weights).eval()
    images = torch.randn(2, 1, 8, 8)
    large = F.interpolate(images, size=(32, 32), mode="bilinear").repeat(1, 3, 1, 1)
    torch.testing.assert_close(model(images), model(large))


def test_query_and_value_of_each_block_are_adapted_and_only_the_head_is_new(weights: Path):
    model = TinyViT((3, 32, 32), 5, weights)
    assert model.lora_targets == tuple(
        f"vit.encoder.layers.encoder_layer_{block}.self_attention.{name}" for block in (0, 1) for name in ("query", "value")
    )
    assert model.state_dict().keys() - model.loaded == {"vit.heads.weight", "vit.heads.bias"}


@pytest.mark.parametrize(
    ("shape", "problem"), [((2, 8, 8), "1 or 3 channels"), ((8, 8), "takes images"), ((7,), "takes images")]
)
def test_other_samples_are_refused(shape: tuple[int, ...], problem: str, weights: Path):
    with pytest.raises(ExperimentError, match=problem):
        TinyViT(shape, 5, weights)


def test_weights_are_found_by_path_by_name_and_by_default(weights: Path, tmp_path: Path):
    assert ViTB16.locate(str(weights), None) == weights
    assert ViTB16.locate(weights.name, tmp_path) == weights
    assert ViTB16.locate("", tmp_path) == weights


def test_torchs_own_cache_counts_too(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = tmp_path / "cache" / "checkpoints"
    cache.mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(cache.parent))
    kept = weights.rename(cache / weights.name)
    for root in (None, tmp_path / "data"):
        assert ViTB16.locate("", root) == kept


def test_weights_that_are_not_here_name_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(CapabilityError, match="ViT-B/16 with its ImageNet weights is not here") as caught:
        ViTB16.locate("", tmp_path)
    assert caught.value.fix.startswith(
        f"Put {ViTB16.default} into {tmp_path / 'models'}, or run once with a network connection"
    )
    assert "no route to host" in caught.value.fix
    with pytest.raises(CapabilityError, match=r"no weights mine\.pth") as caught:
        ViTB16.locate("mine.pth", tmp_path)
    assert "leave pretrained out" in caught.value.fix


def test_a_file_of_something_else_is_refused(weights: Path, tmp_path: Path):
    whole = weights.read_bytes()
    torch.save({"conv_proj.weight": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save(["a list"], tmp_path / "list.pth")
    torch.save(TinyViT((3, 32, 32), 5, weights).state_dict(), tmp_path / "ours.pth")
    for content in (
        b"",
        b"no weights",
        whole[:-100],
        *((tmp_path / f"{n}.pth").read_bytes() for n in ("other", "list", "ours")),
    ):
        weights.write_bytes(content)
        with pytest.raises(CapabilityError, match="holds no weights") as caught:
            TinyViT((3, 32, 32), 5, weights)
        assert "Delete it" in caught.value.fix


def test_the_whole_network_has_twelve_blocks_and_86_million_parameters():
    with torch.device("meta"):
        network = ViTB16.network()
    assert len(network.encoder.layers) == 12
    assert sum(parameter.numel() for parameter in network.parameters()) == 86_567_656
