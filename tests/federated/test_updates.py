import subprocess
import sys

import pytest
import torch
from torch import Tensor

from fedspec.errors import DamagedError
from fedspec.federated.updates import Updates

SHAPES = ((3, 4), (5,), (2, 2, 2))


def tensors(seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw) for shape in SHAPES]


@pytest.mark.parametrize("momentum", [None, 0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_torch_bit_for_bit(momentum: float | None, decay: float) -> None:
    theirs = [torch.nn.Parameter(tensor) for tensor in tensors()]
    reference: torch.optim.Optimizer
    if momentum is None:
        reference = torch.optim.AdamW(theirs, lr=0.01, weight_decay=decay, fused=True)
    else:
        reference = torch.optim.SGD(theirs, lr=0.01, weight_decay=decay, momentum=momentum, fused=True)
    ours = tensors()
    updates = Updates(ours, 0.01, decay, momentum)
    for step in range(1, 5):
        gradients = tensors(step)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient.clone()
        reference.step()
        updates.step(gradients)
        assert all(torch.equal(mine, its) for mine, its in zip(ours, theirs, strict=True))


def test_a_gradient_that_is_transposed_in_memory_is_the_same_gradient() -> None:
    plain, turned = ([torch.zeros(3, 4)] for _ in range(2))
    gradient = torch.arange(12.0).reshape(3, 4)
    Updates(plain, 0.1, 0.0, 0.0).step([gradient])
    Updates(turned, 0.1, 0.0, 0.0).step([gradient.T.contiguous().T])
    assert torch.equal(plain[0], turned[0])


def test_a_tensor_that_is_transposed_in_memory_moves_along_its_own_gradient() -> None:
    start, gradient = tensors()[0], tensors(1)[0]
    turned = [start.T.contiguous().T]
    updates = Updates(turned, 0.1, 0.0)
    plain = [start.clone()]
    reference = Updates(plain, 0.1, 0.0)
    for _ in range(3):
        updates.step([gradient])
        reference.step([gradient])
    torch.testing.assert_close(turned[0], plain[0], rtol=1e-6, atol=0)


def test_what_has_no_gradient_stays_as_it_is_and_makes_no_step() -> None:
    ours, theirs = tensors(), [torch.nn.Parameter(tensor) for tensor in tensors()]
    updates, reference = Updates(ours, 0.1, 0.5), torch.optim.AdamW(theirs, lr=0.1, weight_decay=0.5, fused=True)
    for step in range(1, 6):
        gradients = [None if step in (2, 3) and place == 1 else gradient for place, gradient in enumerate(tensors(step))]
        before = ours[1].clone()
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient
        reference.step()
        updates.step(gradients)
        assert torch.equal(ours[1], before) == (step in (2, 3))
        assert all(torch.equal(mine, its) for mine, its in zip(ours, theirs, strict=True))
    updates.step([None, None, None])
    assert all(torch.equal(mine, its) for mine, its in zip(ours, theirs, strict=True))


def test_going_on_from_a_saved_state_is_the_same_as_never_stopping() -> None:
    whole = tensors()
    updates = Updates(whole, 0.1, 0.01)
    updates.step(tensors(1))
    saved, half = updates.state(), [tensor.clone() for tensor in whole]
    updates.step(tensors(2))
    resumed = Updates(half, 0.1, 0.01)
    resumed.load(saved)
    resumed.step(tensors(2))
    assert all(torch.equal(mine, its) for mine, its in zip(half, whole, strict=True))
    # What was saved is a copy: the steps after it have not moved it.
    assert [int(steps) for steps in saved["steps"]] == [1, 1, 1]


def test_a_state_of_other_tensors_is_refused() -> None:
    saved = Updates(tensors()[:2], 0.1, 0.0).state()
    for state in (saved, {}, {"steps": 1, "moments": []}):
        with pytest.raises(DamagedError, match="optimiser"):
            Updates(tensors(), 0.1, 0.0).load(state)


def test_training_does_not_import_the_compiler() -> None:
    """It takes half a second to a second, of each process."""
    script = (
        "import sys\n"
        "from fedspec.config import FederatedConfig\n"
        "from fedspec.federated.experiment import prepare\n"
        "from fedspec.federated.rounds import rounds\n"
        "for engine in ('sequential', 'stacked'):\n"
        "    list(rounds(prepare(FederatedConfig(rounds=1, clients=2, engine=engine), device='cpu')))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
