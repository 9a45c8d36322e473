"""``fedspec export``: a trained adapter in PEFT's form."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedspec.cli.console import emit_json, say
from fedspec.cli.opening import open_queue
from fedspec.cli.options import ItemArgument, JsonOption, WorkspaceOption
from fedspec.errors import CapabilityError, SetupError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from fedspec.checkpoints import Resumed
    from fedspec.federated.export import PeftAdapter
    from fedspec.plan import Item
    from fedspec.workqueue.distributor import WorkDistributor

ADAPTER, BASE = "adapter_model.safetensors", "base_model.safetensors"


def export(
    item: ItemArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where its files go.", show_default=False)],
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write a trained adapter as PEFT and Hugging Face's libraries read it."""
    from fedspec.federated.export import to_peft
    from fedspec.federated.state import Weights
    from fedspec.plan import effective

    queue = open_queue(workspace)
    queue.require_queue()
    found = queue.find_items(item)
    if len(found) != 1:
        raise UsageError(f"{item} matches {len(found)} items.", "Name one of them.")
    name = queue.look().names[found[0].id]
    saved, base = _saved(queue, found[0], name)
    adapter = to_peft(effective(found[0]), Weights.from_state(saved.state), base)
    files = write(adapter, _weights(found[0]), output)
    rounds = int(found[0].config.get("rounds", saved.round))
    if json:
        emit_json({"experiment": name, "round": saved.round, "rounds": rounds, "files": [str(file) for file in files]})
        return
    layers = len(adapter.settings["target_modules"])
    say(f"{name} after round {saved.round} of {rounds}: adapters of {layers} layers in {output}")
    say("\n".join(_how_to_load(found[0], adapter, output)))


def _saved(queue: WorkDistributor, item: Item, name: str) -> tuple[Resumed, dict[str, Tensor]]:
    """The last saved round that is here, and the frozen base that it belongs to."""
    from fedspec.checkpoints import CheckpointManager

    checkpoints = CheckpointManager(queue.workspace.checkpoints, queue.files)
    with queue.store.lock:
        recorded = queue.store.fold.generations(item.id)
    saved = checkpoints.last(item.exp, item.id, recorded, name)
    if saved is None:
        fix = "Wait for the folder to sync, or train it: fedspec work." if recorded else "Train it first: fedspec work."
        raise SetupError(f"No saved round of {name} is here.", fix)
    base = checkpoints.load_base(saved.base)
    if base is None:
        raise SetupError(f"The frozen base of {name} is not here.", "Wait for the folder to sync, or train it again.")
    return saved, base


def write(adapter: PeftAdapter, weights: str | None, folder: Path) -> list[Path]:
    """Write the adapter's files, and the base that it stands on where nobody else has that; returns their paths.

    Args:
        weights: the name of the pretrained weights that it belongs to.

    Raises:
        CapabilityError: the extra ``text`` is not installed.
    """
    from fedspec.models.bert import library, of_the_extra

    library()  # peft imports transformers, which is to be imported so
    peft, safetensors = of_the_extra("peft"), of_the_extra("safetensors.torch")
    folder.mkdir(parents=True, exist_ok=True)
    peft.LoraConfig(base_model_name_or_path=weights, **adapter.settings).save_pretrained(folder)
    written = [folder / "adapter_config.json"]
    for file, tensors in ((ADAPTER, adapter.tensors), (BASE, adapter.base)):
        if tensors:
            (folder / file).write_bytes(safetensors.save(tensors, metadata={"format": "pt"}))
            written.append(folder / file)
    return written


def _weights(item: Item) -> str | None:
    """The name of the pretrained weights that the adapter belongs to."""
    from fedspec.models import MODELS, PRETRAINED

    entry = MODELS[item.config["model"]]
    return (item.config.get("pretrained") or str(entry.load().default)) if entry.traits >= PRETRAINED else None


def _place(item: Item) -> str | None:
    """Where those weights are on this machine, if they are; else their name."""
    from fedspec.downloads import offline
    from fedspec.models import MODELS
    from fedspec.workspace import data_root

    name = _weights(item)
    if name is not None:
        with offline(), suppress(CapabilityError):
            return str(MODELS[item.config["model"]].load().locate(item.config.get("pretrained", ""), data_root()))
    return name


def _how_to_load(item: Item, adapter: PeftAdapter, folder: Path) -> Iterator[str]:
    model, place = item.config["model"], _place(item)
    yield "from peft import PeftModel"
    if adapter.settings["task_type"] is not None:
        labels = f", num_labels={adapter.classes}" if adapter.classes else ""
        yield "from transformers import AutoModelForSequenceClassification"
        yield f"model = AutoModelForSequenceClassification.from_pretrained({place!r}{labels})"
    else:
        file = "" if place is None else f", Path({place!r})"
        yield "from fedspec.models import MODELS"
        yield f"model = MODELS[{model!r}].load()(input_shape, classes{file})  # as the data set has them"
        if adapter.base:
            yield f"model.load_state_dict(safetensors.torch.load_file({str(folder / BASE)!r}))"
    yield f"model = PeftModel.from_pretrained(model, {str(folder)!r})"
