"""Fashion-MNIST, which has MNIST's format and sizes (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747)."""

from __future__ import annotations

from fedspec.data.idx import IdxImages

FASHION_MNIST = IdxImages("Fashion-MNIST", folder="FashionMNIST", mean=0.2860, std=0.3530)
load = FASHION_MNIST.load
