"""The models that an experiment can name: one file each, one line here.

To add one: a subclass of `fedspec.models.base.Model` in a file of its own, and its entry below.
"""

from __future__ import annotations

from fedspec.registry import Entry

MODELS: dict[str, Entry] = {
    "mlp": Entry("fedspec.models.mlp:MLP", "MLP 128-128"),
    "2nn": Entry("fedspec.models.mlp:TwoNN", "2NN"),
}
