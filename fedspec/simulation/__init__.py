"""The production worker, queue and checkpoints on simulated machines: seed in, the identical course of events out.

`world` is time and processes, `rehearsal` the work they do, `schedule` one whole run with its faults, and `invariants` what
must hold in the end, whatever happened.
"""
