from __future__ import annotations

import pytest
import torch

from fedspec.federated.lora import Factors
from fedspec.federated.state import Weights

BAD = (float("nan"), float("inf"), float("-inf"))


def weights(numel: int) -> Weights:
    numbers = 3e38 * torch.linspace(-1, 1, numel)
    factors = Factors(numbers.clone().view(numel, 1), numbers.clone().view(1, numel))
    return Weights({"layer": factors}, {"head": numbers.clone(), "empty": torch.zeros(0, 3)}, {})


@pytest.mark.parametrize("numel", [1, 7, 64, 1001])
def test_a_number_that_is_not_finite_is_found_wherever_it_is(numel: int) -> None:
    assert weights(numel).nonfinite() is None
    for bad in BAD:
        for place in {0, numel // 2, numel - 1}:
            for tensor, name in ((0, "layer"), (1, "layer"), (2, "head")):
                hurt = weights(numel)
                tensors = (hurt.adapter["layer"].B, hurt.adapter["layer"].A, hurt.dense["head"])
                tensors[tensor].view(-1)[place] = bad
                assert hurt.nonfinite() == name
