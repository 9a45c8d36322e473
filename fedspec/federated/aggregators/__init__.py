"""How the server makes one model of what the clients send: one file each, one line here.

To add one: a subclass of `base.Aggregator` (or of `base.Layerwise` where it is a pure function of each layer's updates)
in a file of its own that opens with its paper and formula, and its entry below. Append: figures take colours in this order.
"""

from __future__ import annotations

from fedspec.registry import Entry

# What a method can do: tune adapters or full weights; keep the adapters' coordinates, so that a server optimiser can go on from
# round to round; aggregate clients of different ranks; look at nothing but the mean of what clients send, so that noise on that
# hides a client. And what it needs: clients that take plain SGD steps.
LORA, FULL, STEADY, RANKS, MEAN, SGD = (frozenset({trait}) for trait in ("lora", "full", "steady", "ranks", "mean", "sgd"))

AGGREGATORS: dict[str, Entry] = {
    "fedavg": Entry("fedspec.federated.aggregators.fedavg:FedAvg", "FedAvg", LORA | FULL | STEADY | RANKS | MEAN),
    "fedavg_rebalanced": Entry(
        "fedspec.federated.aggregators.fedavg_rebalanced:FedAvgRebalanced", "FedAvg rebalanced", LORA | RANKS | MEAN
    ),
    "fedspec": Entry("fedspec.federated.aggregators.fedspec:FedSpec", "FedSpec", LORA | RANKS),
    "fedspec_residual": Entry("fedspec.federated.aggregators.fedspec_residual:FedSpecResidual", "FedSpec + residual", LORA),
    "fedex": Entry("fedspec.federated.aggregators.fedex:FedEx", "FedEx-LoRA", LORA),
    "ffa": Entry("fedspec.federated.aggregators.ffa:FFA", "FFA-LoRA", LORA | STEADY | MEAN),
    "flora": Entry("fedspec.federated.aggregators.flora:FLoRA", "FLoRA", LORA | RANKS),
    "rolora": Entry("fedspec.federated.aggregators.rolora:RoLoRA", "RoLoRA", LORA | STEADY | MEAN),
    "scaffold": Entry("fedspec.federated.aggregators.scaffold:Scaffold", "SCAFFOLD", FULL | SGD),
    "fedsvd": Entry("fedspec.federated.aggregators.fedsvd:FedSVD", "FedSVD", LORA | MEAN),
    "flexlora": Entry("fedspec.federated.aggregators.flexlora:FlexLoRA", "FlexLoRA", LORA | RANKS),
    "florist": Entry("fedspec.federated.aggregators.florist:FLoRIST", "FLoRIST", LORA | RANKS),
    "lora_fair": Entry("fedspec.federated.aggregators.lora_fair:LoRAFair", "LoRA-FAIR", LORA | STEADY),
    "fedrpca": Entry("fedspec.federated.aggregators.fedrpca:FedRPCA", "FedRPCA", LORA | STEADY),
}
