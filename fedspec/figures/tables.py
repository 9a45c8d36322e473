"""The paper's tables of a family: levels, differences with their verdicts, and bytes; how they are set is for `typeset`."""

from __future__ import annotations

import re

from fedspec.figures.accuracy_by_bytes import unit_of
from fedspec.figures.comparisons import ACCURACY, BASELINE, OUTCOMES, AlphaStudy, Comparison, Level, Study, study
from fedspec.figures.families import Family
from fedspec.figures.reach import reach
from fedspec.figures.style import label
from fedspec.figures.summary import interval, p_value, rounds, seeds, signed
from fedspec.figures.typeset import ALPHA, BETTER, MINUS, NONE, PLUS_MINUS, WORSE, Cell, Table

MARKS = {"better": f" {BETTER}", "worse": f" {WORSE}", "not significant": ""}
SECONDARY = "A second outcome, corrected by itself."


def tables(family: Family) -> tuple[Table, ...]:
    """All tables of a family that have rows."""
    studies = [study(family, outcome) for outcome in OUTCOMES]
    found = [table for about in studies for table in (levels_table(about), differences_table(about))]
    return tuple(table for table in (*found, bytes_table(family)) if table.rows)


def levels_table(found: Study) -> Table:
    """A line per method and a column per alpha: means with their intervals, marked where the difference to FedAvg is one."""
    alphas = found.alphas
    uneven = len({level.seeds for alpha in alphas for level in alpha.levels}) > 1
    federated = [(Cell(label(method)), *(_level_cell(alpha, method, uneven) for alpha in alphas)) for method in found.methods]
    references = [
        (Cell(label(level.method)), *(Cell(_level_text(level, uneven)) for _ in alphas)) for level in found.references if alphas
    ]
    return Table(
        name=found.outcome.column,
        title=_sentence(found.outcome.label),
        note=" ".join(_levels_notes(found)),
        header=("Method", *("iid" if alpha.alpha is None else f"{ALPHA} = {alpha.alpha!r}" for alpha in alphas)),
        rows=(*federated, *references),
        texts=1,
        columns=("alpha", "method", "seeds", "mean", "half_width_95"),
        records=(
            *((_alpha_text(alpha.alpha), *_level_record(level)) for alpha in alphas for level in alpha.levels),
            *((None, *_level_record(level)) for level in found.references if alphas),
        ),
    )


def differences_table(found: Study) -> Table:
    """A line per comparison."""
    among = _among(found)
    notes = [
        "Method minus baseline in percentage points, paired by seed, with each comparison's own 95 % t interval.",
        f"p is the paired t test's; verdicts go by p corrected for {among} comparisons (Holm), below 0.05."
        if among > 1
        else "p is the paired t test's; verdicts go by it, below 0.05.",
    ]
    return Table(
        name=f"{found.outcome.column}_differences",
        title=f"Differences in {found.outcome.label}",
        note=" ".join([*notes, *_secondary(found)]),
        header=("Alpha", "Method", "Baseline", "Points", "95 % interval", "Relative", "Seeds", "p", "Corrected p", "Verdict"),
        rows=tuple(_difference_row(comparison) for comparison in found.comparisons),
        texts=3,
        columns=(
            *("alpha", "method", "baseline", "points", "low_95", "high_95", "low_95_simultaneous", "high_95_simultaneous"),
            *("relative_percent", "seeds", "p", "p_holm", "comparisons", "verdict"),
        ),
        records=tuple(_difference_record(comparison) for comparison in found.comparisons),
    )


def bytes_table(family: Family) -> Table:
    """A line per method and alpha: how many bytes until the accuracy that FedAvg ends with."""
    found = reach(family)
    unit, name = unit_of(max((one.median_bytes or 0.0 for one in found), default=0.0))
    return Table(
        name="bytes_to_level",
        title=f"Bytes until the accuracy that {label(BASELINE)} ends with",
        note=f"Sent and received by all clients up to the first round with the accuracy that {label(BASELINE)} has in its last"
        " rounds with the same alpha and seed: the median over seeds, and that of the ratio to what it needs itself. This is"
        " described and not tested: runs that never get there have no number.",
        header=("Alpha", "Method", "Reached", f"Median ({name})", f"Times {label(BASELINE)}'s"),
        rows=tuple(
            tuple(
                map(
                    Cell,
                    (
                        *(_alpha_text(one.alpha), label(one.method), f"{one.reached} of {one.seeds}"),
                        NONE if one.median_bytes is None else f"{one.median_bytes / unit:.2f}",
                        NONE if one.median_ratio is None else f"{one.median_ratio:.2f}",
                    ),
                )
            )
            for one in found
        ),
        texts=2,
        columns=("alpha", "method", "reached", "seeds", "median_bytes", "median_ratio"),
        records=tuple(
            (_alpha_text(one.alpha), one.method, one.reached, one.seeds, one.median_bytes, one.median_ratio) for one in found
        ),
    )


def _levels_notes(found: Study) -> list[str]:
    notes = [f"In per cent: mean of {rounds(found)}, then over seeds, {PLUS_MINUS} half the width of the 95 % t interval."]
    if among := _among(found):
        over = f" corrected for {among} comparisons (Holm)" if among > 1 else ""
        notes.append(f"{BETTER} better, {WORSE} worse than {label(BASELINE)}: paired t test, p{over} below 0.05.")
    bests = [alpha.best for alpha in found.alphas if alpha.best is not None and alpha.best.among]
    if bests:
        over = f", corrected for {bests[0].among} alphas (Holm)" if bests[0].among > 1 else ""
        proven = any(best.significant for best in bests)
        what = (
            "Bold: better than each other federated method" if proven else "No best mean is shown to be better than each other"
        )
        notes.append(f"{what} (intersection-union test{over}).")
    return [*notes, *_secondary(found)]


def _secondary(found: Study) -> list[str]:
    return [] if found.outcome is ACCURACY else [SECONDARY]


def _among(found: Study) -> int:
    return max((comparison.among for comparison in found.comparisons), default=0)


def _level_cell(alpha: AlphaStudy, method: str, uneven: bool) -> Cell:
    level = alpha.level(method)
    if level is None:
        return Cell(NONE)
    verdicts = {comparison.method: comparison.verdict for comparison in alpha.comparisons if comparison.baseline == BASELINE}
    mark = MARKS[verdicts.get(method, "not significant")]
    best = alpha.best
    return Cell(_level_text(level, uneven) + mark, best is not None and best.significant and best.method == method)


def _level_text(level: Level, uneven: bool) -> str:
    half = "" if level.half_width is None else f" {PLUS_MINUS} {100 * level.half_width:.2f}"
    count = f" ({seeds(len(level.seeds))})" if uneven or level.half_width is None else ""
    return f"{100 * level.mean:.2f}{half}{count}"


def _level_record(level: Level) -> tuple[object, ...]:
    return (level.method, len(level.seeds), level.mean, level.half_width)


def _difference_row(found: Comparison) -> tuple[Cell, ...]:
    relative = NONE if found.relative_percent is None else f"{signed(found.relative_percent)} %"
    p, corrected = (p_value(value).removeprefix("= ") or NONE for value in (found.paired.p, found.adjusted_p))
    numbers = (signed(found.points), interval(found) or NONE, relative)
    return (
        *(Cell(text) for text in (_alpha_text(found.alpha), label(found.method), label(found.baseline))),
        *(Cell(re.sub(r"-(?=\d)", MINUS, text)) for text in numbers),
        *(Cell(text) for text in (str(found.paired.seeds), p, corrected, found.verdict)),
    )


def _difference_record(found: Comparison) -> tuple[object, ...]:
    pair, mean = found.paired, found.points
    ends = [None if half is None else mean + side * half for half in (pair.half_width, pair.simultaneous) for side in (-1, 1)]
    numbers = (found.relative_percent, pair.seeds, pair.p, found.adjusted_p, found.among)
    return (_alpha_text(found.alpha), found.method, found.baseline, mean, *ends, *numbers, found.verdict)


def _alpha_text(alpha: float | None) -> str:
    return "iid" if alpha is None else repr(alpha)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
