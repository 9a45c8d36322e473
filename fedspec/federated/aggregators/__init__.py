"""How the server makes one model of what the clients send: one file each, one line here.

To add one: a subclass of `base.Aggregator` (or of `base.Layerwise` where it is a pure function of each layer's updates)
in a file of its own that opens with its paper and formula, and its entry below. Append: figures take colours in this order.
"""

from __future__ import annotations

from fedspec.registry import Entry

AGGREGATORS: dict[str, Entry] = {
    "fedavg": Entry("fedspec.federated.aggregators.fedavg:FedAvg", "FedAvg"),
    "fedavg_rebalanced": Entry("fedspec.federated.aggregators.fedavg_rebalanced:FedAvgRebalanced", "FedAvg rebalanced"),
    "fedspec": Entry("fedspec.federated.aggregators.fedspec:FedSpec", "FedSpec"),
    "fedspec_residual": Entry("fedspec.federated.aggregators.fedspec_residual:FedSpecResidual", "FedSpec + residual"),
    "fedex": Entry("fedspec.federated.aggregators.fedex:FedEx", "FedEx-LoRA"),
    "ffa": Entry("fedspec.federated.aggregators.ffa:FFA", "FFA-LoRA"),
    "flora": Entry("fedspec.federated.aggregators.flora:FLoRA", "FLoRA"),
    "rolora": Entry("fedspec.federated.aggregators.rolora:RoLoRA", "RoLoRA"),
}
