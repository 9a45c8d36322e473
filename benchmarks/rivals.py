"""What the protocol itself costs: rounds trained more than once where nothing fails, by how long news takes to travel.

The production code on simulated machines in a synced folder without a fault, in which each change arrives after about that
time. It is paid at the beginning, when machines do not know of each other yet, and at the end, when they steal: the longer the
queue, the less it is.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

from benchmarks import Headline, table, write
from fedspec.simulation.invariants import Ending
from fedspec.simulation.profiles import PROFILES, fair_weather
from fedspec.simulation.schedule import run_schedule

# Seconds of delay, and the most rounds in a hundred that may be repeated there.
ITEMS, ROUNDS = 12, 10  # of 80 s each
LIMITS = {3.0: 1.0, 30.0: 1.0, 120.0: 10.0, 300.0: 10.0}


def course(seed: int, delay_s: float) -> tuple[int, int, bool, int]:
    """One schedule: (rounds beyond one of each, rounds, whether all was sealed, promises that it broke)."""
    work = replace(fair_weather(PROFILES["syncthing"], delay_s), items=ITEMS, rounds=ROUNDS)
    ending = Ending(run_schedule(seed, work))
    fold = ending.queue().store.fold
    sealed = all(fold.status(item.id) == "sealed" for item in ending.course.items)
    return *ending.duplicate_rounds(), sealed, len(ending.violations())


def main() -> None:
    """Print the shares of repeated rounds; exit code 1 if one is above its limit or a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=100, help="of each delay")
    schedules = parser.parse_args().schedules
    rows, figures, headlines, bad = [], {}, [], False
    with ProcessPoolExecutor() as pool:
        for delay_s, limit in LIMITS.items():
            outcomes = list(pool.map(partial(course, delay_s=delay_s), range(schedules), chunksize=4))
            repeated, rounds = sum(o[0] for o in outcomes), sum(o[1] for o in outcomes)
            unsealed, broken = sum(not o[2] for o in outcomes), sum(o[3] for o in outcomes)
            share = 100 * repeated / rounds
            reached = share <= limit and not unsealed and not broken
            bad |= not reached
            what = f"rounds trained twice without a fault, news takes {delay_s:g} s"
            headlines.append(Headline(what, f"{share:.2f} %", f"{limit:g} %", reached))
            figures[f"{delay_s:g}"] = {"repeated": repeated, "rounds": rounds, "unsealed": unsealed, "broken": broken}
            rows.append(
                [f"{delay_s:g} s", f"{repeated} of {rounds}", f"{share:.2f} %", f"{limit:g} %", str(unsealed), str(broken)]
            )
    print(table(["news takes", "rounds repeated", "share", "at most", "not sealed", "promises broken"], rows))
    print(f"Written to {write('rivals', {'schedules': schedules, 'by delay in seconds': figures}, headlines)}.")
    if bad:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
