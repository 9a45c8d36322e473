"""The stacked QR against a dense SVD of the same ideal update: how much faster, and how far apart."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks import Headline, table, write
from fedspec.federated.lora import Factors
from fedspec.federated.spectral import LowRank

SHAPES = ((768, 10, 8), (1024, 10, 8), (128, 10, 4))
REPEATS = 5


def seconds(work: Callable[[], object]) -> float:
    """Median over some repeats, after one to warm up."""
    work()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Measure each shape, print the table, write the JSON."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    rows, results = [], []
    for d, clients, rank in SHAPES:
        factors = [
            Factors(torch.randn(d, rank, generator=generator), torch.randn(rank, d, generator=generator))
            for _ in range(clients)
        ]
        ideal = LowRank.weighted_sum(factors, [1 / clients] * clients, scale=2.0)
        dense = ideal.dense()
        stacked_seconds = seconds(ideal.svd)
        dense_seconds = seconds(partial(torch.linalg.svd, dense, full_matrices=False))
        found, (U, S, V) = ideal.svd(), torch.linalg.svd(dense, full_matrices=False)
        cut = (found.U[:, :rank] * found.S[:rank]) @ found.V[:rank] - (U[:, :rank] * S[:rank]) @ V[:rank]
        error = max(float((found.S - S[: len(found.S)]).abs().max()), float(cut.abs().max()))
        ratio = dense_seconds / stacked_seconds
        results.append(
            {"d": d, "n": clients, "r": rank, "stacked_s": stacked_seconds, "dense_s": dense_seconds, "error": error}
        )
        times = [f"{1e3 * stacked_seconds:.2f}", f"{1e3 * dense_seconds:.1f}", f"{ratio:.0f}x"]
        rows.append([f"d={d} n={clients} r={rank}", *times, f"{error:.1e}"])
    print(table(["shape", "stacked QR, ms", "dense SVD, ms", "faster", "largest error"], rows))
    first = results[0]
    kept = (faster := first["dense_s"] / first["stacked_s"]) >= 20 and first["error"] <= 1e-10
    headline = Headline(
        f"exact SVD from stacked factors over a dense one, {rows[0][0]}",
        f"{faster:.0f}x, error {first['error']:.0e}",
        "20x, 1e-10",
        kept,
    )
    path = write("svd", {"shapes": results}, [headline])
    print(f"\nat least 20x and within 1e-10 at {rows[0][0]}: {'yes' if kept else 'NO'}; {path}")


if __name__ == "__main__":
    main()
