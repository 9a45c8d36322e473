"""Federated training of LoRA adapters: what happens in a round, whoever runs it and wherever its results go.

Read `rounds` first: it is one round from top to bottom. `experiment` makes what it works on, `aggregators` holds the
methods, `spectral` and `statistics` the linear algebra, `client` the local training. Nothing here touches files,
clocks or the environment: training is a generator that yields, and its caller does the rest.
"""
