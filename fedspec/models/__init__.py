"""The models that an experiment can name: one file each, one line here.

To add one: a subclass of `fedspec.models.base.Model` in a file of its own, and its entry below.
"""

from __future__ import annotations

from fedspec.registry import Entry

# What a model reads, whether it has layers that can carry adapters, and whether it is made from a file of weights.
IMAGE, TEXT, LORA, PRETRAINED = (frozenset({trait}) for trait in ("image", "text", "lora", "pretrained"))

MODELS: dict[str, Entry] = {
    "mlp": Entry("fedspec.models.mlp:MLP", "MLP 128-128", IMAGE | LORA),
    "2nn": Entry("fedspec.models.mlp:TwoNN", "2NN", IMAGE | LORA),
    "cnn": Entry("fedspec.models.cnn:CNN", "CNN", IMAGE | LORA),
    "resnet8": Entry("fedspec.models.resnet:ResNet8", "ResNet-8 (GN)", IMAGE),
    "resnet18": Entry("fedspec.models.resnet:ResNet18", "ResNet-18 (GN)", IMAGE),
    "vit": Entry("fedspec.models.vit:ViT", "ViT, small", IMAGE | LORA),
    "vit_b_16": Entry("fedspec.models.vit_b_16:ViTB16", "ViT-B/16", IMAGE | LORA | PRETRAINED),
    "bert": Entry("fedspec.models.bert:SequenceClassifier", "BERT", TEXT | LORA | PRETRAINED),
}
