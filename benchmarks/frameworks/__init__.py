"""The same job in several frameworks: fedspec, a bare PyTorch loop, pfl-research and Flower, what each takes for a round.

    python -m venv PEERS
    PEERS/bin/python -m pip install ".[peers]" torch==2.13.0 torchvision==0.28.0
    FEDSPEC_DATA=... python -m benchmarks.frameworks --python PEERS/bin/python

The peers' environment is one of its own, since they pin other versions of some packages than the tests ran with; its torch must
be this one's. Without it they are left out.

All have the very same samples of each client, the same first model, optimizer, batch size and number of steps, and evaluate on
the same images: see `job`. Each is written as its own documentation has it for one machine; what was chosen is in its file.
Accuracies after the last round, beside each other, are the check that all did the same.

Frameworks take turns by the round, in an order that rotates, so that whatever else the machine does meets all of them; ratios
are medians of the ratios within a turn, with their quartiles. CPU seconds are those of all of a framework's processes: what a
round costs, on however many cores, whatever else the machine does. Start-up is everything up to the end of the first round
beyond what a later round takes.
"""
