"""One process's way through the queue: claim, run a job, save after every round, publish, release.

`loop` goes from item to item, `attempt` is one attempt at one item, `heart` beats beside them, `patience` says how
long they try again, `signals` is what they share with whoever drives them, `teller` says things to those who may not listen.
"""

from fedspec.worker.heart import Heart, drive
from fedspec.worker.loop import Worker
from fedspec.worker.signals import Reporter, Stopped, StopSignal

__all__ = ["Heart", "Reporter", "StopSignal", "Stopped", "Worker", "drive"]
