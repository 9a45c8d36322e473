"""The data sets that an experiment can name: one file each, one line here.

To add one: a function ``load(root: Path | None) -> Dataset`` (of a text data set ``-> Corpus``) in a file of its own, and its
entry below.
"""

from __future__ import annotations

from fedspec.registry import Entry

# What a data set is: numbers in whatever shape, or texts, which only a model with a tokenizer reads; and whether its `load` is
# told a file of the user's and its digest as well.
IMAGE, TEXT, FILE = (frozenset({trait}) for trait in ("image", "text", "file"))

DATASETS: dict[str, Entry] = {
    "digits": Entry("fedspec.data.digits:load", "Digits, rotated", IMAGE),
    "mnist": Entry("fedspec.data.mnist:load", "MNIST", IMAGE),
    "fashion_mnist": Entry("fedspec.data.fashion_mnist:load", "Fashion-MNIST", IMAGE),
    "cifar10": Entry("fedspec.data.cifar10:load", "CIFAR-10", IMAGE),
    "cifar10_subset": Entry("fedspec.data.cifar10:load_subset", "CIFAR-10 subset (JPEG)", IMAGE),
    "npz": Entry("fedspec.data.npz:load", "Own arrays", IMAGE | FILE),
    "sst2": Entry("fedspec.data.sst2:load", "SST-2", TEXT),
}
