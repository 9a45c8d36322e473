"""MNIST (Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits", 1998)."""

from __future__ import annotations

from fedspec.data.idx import IdxImages

# Mean and standard deviation as everyone normalises MNIST.
MNIST = IdxImages("MNIST", folder="MNIST", mean=0.1307, std=0.3081)
load = MNIST.load
