"""The optimisers of local training, for one client's tensors or for a stack of several clients': AdamW and SGD.

The arithmetic is that of torch's fused kernels, elementwise, so that all clients' tensors make one step together. An object of
`torch.optim` spends more time around a kernel than small models spend in it, would have to be made anew whenever clients of a
stack are done, and imports torch's compiler, which takes half a second to a second of each process.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedspec.config import TrainingConfig
from fedspec.errors import DamagedError
from fedspec.federated.state import State, shape_of

# AdamW's, as torch has them by default (Loshchilov and Hutter 2019).
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
# What is kept of each tensor: running means of its gradient and of its square, or of its gradient if there is momentum.
ADAMW, MOMENTUM = 2, 1


class Updates:
    """One optimiser over some tensors; over stacks of n clients, (n, *shape) each, of which the first few go on.

    Args:
        tensors: what it changes, in place.
        momentum: of SGD; ``None`` for AdamW.

    Attributes:
        moments: per kind of what is kept, that of each tensor.
        steps: how many each tensor has made, on its device.
    """

    def __init__(self, tensors: Sequence[Tensor], lr: float, weight_decay: float, momentum: float | None = None) -> None:
        self.tensors = list(tensors)
        self.lr, self.weight_decay, self.momentum = lr, weight_decay, momentum
        kept = ADAMW if momentum is None else MOMENTUM if momentum else 0
        self.moments = [[torch.zeros_like(tensor, requires_grad=False) for tensor in self.tensors] for _ in range(kept)]
        self.steps = [torch.zeros((), device=tensor.device) for tensor in self.tensors]

    @classmethod
    def of(cls, tensors: Sequence[Tensor], config: TrainingConfig) -> Updates:
        """As a configuration wants it."""
        return cls(tensors, config.lr, config.weight_decay, None if config.optimizer == "adamw" else config.momentum)

    def narrow(self, active: int) -> None:
        """Go on with the first ``active`` clients: ``tensors`` are leaves that share the memory of what they were."""
        self.tensors = [tensor[:active].detach().requires_grad_() for tensor in self.tensors]
        self.moments = [[moment[:active] for moment in kind] for kind in self.moments]

    @torch.inference_mode()
    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """One step; a tensor that has no gradient stays as it is."""
        tensors, steps, moments = self.tensors, self.steps, self.moments
        if any(gradient is None for gradient in gradients):
            found = [place for place, gradient in enumerate(gradients) if gradient is not None]
            if not found:
                return
            tensors, steps, *moments = ([kind[place] for place in found] for kind in (tensors, steps, *moments))
        present = [gradient for gradient in gradients if gradient is not None]
        # The kernels read the order of memory, and autograd gives some gradients transposed.
        slopes = [
            gradient if gradient.stride() == tensor.stride() else torch.empty_like(tensor).copy_(gradient)
            for tensor, gradient in zip(tensors, present, strict=True)
        ]
        torch._foreach_add_(steps, 1)
        if self.momentum is None:
            first, second = moments
            torch._fused_adamw_(
                tensors, slopes, first, second, [], steps, lr=self.lr, beta1=BETA_1, beta2=BETA_2,
                weight_decay=self.weight_decay, eps=EPSILON, amsgrad=False, maximize=False,
            )  # fmt: skip
        else:
            # A first step is one like all others: what is kept begins at zero.
            torch._fused_sgd_(
                tensors, slopes, *(moments or [[]]), weight_decay=self.weight_decay, momentum=self.momentum, lr=self.lr,
                dampening=0.0, nesterov=False, maximize=False, is_first_step=False,
            )  # fmt: skip

    def state(self) -> State:
        """What a resumed run needs to go on, copied to the CPU."""
        moments = [[moment.to("cpu", copy=True) for moment in kind] for kind in self.moments]
        return {"steps": [steps.to("cpu", copy=True) for steps in self.steps], "moments": moments}

    def load(self, state: State) -> None:
        """Go on from what `state` has given. Raises DamagedError: it is none of these tensors'."""
        if shape_of(state) != shape_of(self.state()):
            raise DamagedError("A checkpoint's optimiser is not this experiment's.", "Take an older checkpoint.")
        for kind, saved in zip((self.steps, *self.moments), (state["steps"], *state["moments"]), strict=True):
            for kept, value in zip(kind, saved, strict=True):
                kept.copy_(value)
