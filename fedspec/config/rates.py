"""Step sizes: what a configuration gets where nobody names one."""

from __future__ import annotations

# Learning rates found on validation by `python -m benchmarks.tune_lr` with seeds that no plan reports.
TUNED_LR: dict[str, float] = {
    **dict.fromkeys(("fedavg", "fedavg_rebalanced", "fedspec", "fedspec_residual", "fedex", "rolora"), 0.02),
    **dict.fromkeys(("flexlora", "florist", "lora_fair", "fedrpca"), 0.02),
    **dict.fromkeys(("ffa", "flora"), 0.03),
    "fedsvd": 0.05,
    "centralized": 0.005,
}
FALLBACK_LR = 0.02


def tuned_lr(method: str) -> float:
    """The step size that a configuration of ``method`` gets when nobody sets one."""
    return TUNED_LR.get(method, FALLBACK_LR)
