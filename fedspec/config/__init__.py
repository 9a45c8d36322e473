"""The effective configuration of one experiment: its keys and defaults, its name, its step size, and what cannot be."""

from fedspec.config.checks import LARGEST, check_values, complaints, mismatched, unfit
from fedspec.config.names import FEDERATED_SUFFIXES, TRAINING_SUFFIXES
from fedspec.config.rates import TUNED_LR, tuned_lr
from fedspec.config.values import (
    CentralizedConfig,
    FederatedConfig,
    TrainingConfig,
    client_rank,
    clients_in_a_round,
    config_hash,
    server_rank,
)

__all__ = [
    "FEDERATED_SUFFIXES",
    "LARGEST",
    "TRAINING_SUFFIXES",
    "TUNED_LR",
    "CentralizedConfig",
    "FederatedConfig",
    "TrainingConfig",
    "check_values",
    "client_rank",
    "clients_in_a_round",
    "complaints",
    "config_hash",
    "mismatched",
    "server_rank",
    "tuned_lr",
    "unfit",
]
