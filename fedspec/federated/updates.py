"""The optimisers of a stack of clients: AdamW as torch's fused kernel has it, and SGD.

An optimiser's arithmetic is elementwise, so that all clients' tensors make one step together. A `torch.optim` object spends
more time around the kernel than in it, and would have to be made anew whenever clients are done.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedspec.config import TrainingConfig

# AdamW's, as torch has them by default (Loshchilov and Hutter 2019).
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Updates:
    """One optimiser over stacks of n clients, of which the first few go on.

    Args:
        stacks: each (n, *shape); what is kept for them has their shapes.
        config: which optimiser, and its settings; as `fedspec.federated.client.optimizer` reads them.
    """

    def __init__(self, stacks: Sequence[Tensor], config: TrainingConfig) -> None:
        self.config = config
        kept = 2 if config.optimizer == "adamw" else int(config.momentum > 0)
        self.moments = [[torch.zeros_like(stack) for stack in stacks] for _ in range(kept)]
        self.steps = torch.zeros((), device=stacks[0].device)

    def narrow(self, active: int) -> None:
        """Go on with the first ``active`` clients."""
        self.moments = [[moment[:active] for moment in kind] for kind in self.moments]

    @torch.no_grad()
    def step(self, tensors: list[Tensor], gradients: list[Tensor]) -> None:
        """One step, in place: (active, *shape) each, contiguous, since both are read in the order of memory."""
        config = self.config
        if config.optimizer == "adamw":
            self.steps += 1
            first, second = self.moments
            torch._fused_adamw_(
                tensors, gradients, first, second, [], [self.steps] * len(tensors), lr=config.lr, beta1=BETA_1, beta2=BETA_2,
                weight_decay=config.weight_decay, eps=EPSILON, amsgrad=False, maximize=False,
            )  # fmt: skip
            return
        for place, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=True)):
            change = torch.add(gradient, tensor, alpha=config.weight_decay) if config.weight_decay else gradient
            if self.moments:
                change = self.moments[0][place].mul_(config.momentum).add_(change)
            tensor.add_(change, alpha=-config.lr)
