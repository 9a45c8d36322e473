"""The data sets that an experiment can name: one file each, one line here.

To add one: a function ``load(root: Path | None) -> Dataset`` in a file of its own, and its entry below.
"""

from __future__ import annotations

from fedspec.registry import Entry

DATASETS: dict[str, Entry] = {
    "digits": Entry("fedspec.data.digits:load", "Digits, rotated"),
    "mnist": Entry("fedspec.data.mnist:load", "MNIST"),
}
