"""The job in Flower with the data as its PyTorch quickstart has them: pictures of a Hugging Face data set, as Flower Datasets
shares them out, each of which becomes a tensor whenever it is read.

Everything else is `flower`'s. The pictures are PNGs in memory, as the hub's MNIST is once it has been downloaded.
"""

from __future__ import annotations

import importlib
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image
from torch.utils.data import DataLoader

from benchmarks.frameworks.flower import simulate
from benchmarks.frameworks.job import CLASSES, Job, Samples, asked
from fedspec.data.torchvision_compat import torchvision

# As the job's tensors were made of pictures.
MEAN, STD = 0.1307, 0.3081
transforms = torchvision.transforms
to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
_partitions: dict[int, Any] = {}


def transformed(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of pictures as tensors."""
    return {**batch, "image": [to_tensor(image) for image in batch["image"]]}


def partition(samples: Samples) -> Any:
    """A client's samples as a data set of the hub's kind."""
    inputs, labels = samples
    pixels = ((inputs * STD + MEAN) * 255).round().byte()
    columns = {"image": [transforms.functional.to_pil_image(image) for image in pixels], "label": labels.tolist()}
    features = Features({"image": Image(), "label": ClassLabel(num_classes=CLASSES)})
    return Dataset.from_dict(columns, features=features).with_transform(transformed)


class Loader(DataLoader[Any]):
    """Pairs instead of columns by name."""

    def __iter__(self) -> Any:
        return ((batch["image"], batch["label"]) for batch in super().__iter__())


def pictures(job: Job, number: int) -> Loader:
    """The batches of a client; its partition is made once in a process."""
    if number not in _partitions:
        _partitions[number] = partition(job.clients[number])
    return Loader(_partitions[number], batch_size=job.batch_size, shuffle=True)


if __name__ == "__main__":
    # Ray takes along by value what belongs to the main module, and what is of torchvision cannot be unpickled everywhere.
    mine = importlib.import_module("benchmarks.frameworks.flower_datasets")
    simulate(*asked(__doc__, "flwr", "ray", "datasets"), mine.pictures)
