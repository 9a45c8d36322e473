"""The job as a bare loop: what anyone would write without a framework."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from benchmarks.frameworks.job import accuracy, asked, load


def main() -> None:
    """Do the job."""
    path, _, watch = asked(__doc__)
    job = load(path)
    torch.manual_seed(job.seed)
    model = job.model()
    parameters = list(model.parameters())
    total = sum(len(labels) for _, labels in job.clients)
    for _ in range(job.rounds):
        start = [parameter.detach().clone() for parameter in parameters]
        mean = [torch.zeros_like(parameter) for parameter in parameters]
        model.train()
        for inputs, labels in job.clients:
            with torch.no_grad():
                for parameter, value in zip(parameters, start, strict=True):
                    parameter.copy_(value)
            optimizer = torch.optim.SGD(parameters, lr=job.lr, fused=True)
            for _ in range(job.epochs):
                for batch in torch.randperm(len(labels)).split(job.batch_size):
                    loss = F.cross_entropy(model(inputs[batch]), labels[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            for average, parameter in zip(mean, parameters, strict=True):
                average.add_(parameter.detach(), alpha=len(labels) / total)
        watch.trained()
        with torch.no_grad():
            for parameter, average in zip(parameters, mean, strict=True):
                parameter.copy_(average)
        watch.aggregated()
        watch.evaluated(accuracy(model, job.test))


if __name__ == "__main__":
    main()
