from __future__ import annotations

import pytest
import torch

from fedspec.federated.lora import Factors
from fedspec.federated.state import Weights, ordinary

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


def test_what_inference_mode_has_made_is_copied_at_every_depth_and_nothing_else() -> None:
    mine = torch.ones(2)
    with torch.inference_mode():
        made = torch.ones(2)
    found = ordinary({"a": [made, mine, 3], "b": {"c": made}})
    assert found["a"][1] is mine
    assert found["a"][2] == 3
    for copied in (found["a"][0], found["b"]["c"]):
        assert not copied.is_inference()
        assert torch.equal(copied, made)
