"""What the results say, in sentences, all of them computed from the rows and none of them louder than they are."""

from __future__ import annotations

from collections.abc import Iterable

from fedspec.figures.comparisons import BASELINE, CLAIM, AlphaStudy, Best, Comparison, Level, Study, study
from fedspec.figures.families import group
from fedspec.figures.inference import THRESHOLD
from fedspec.figures.runs import Results, load_runs
from fedspec.figures.style import label


def summarize_files(where: Results) -> list[str]:
    """The sentences on a folder of result CSVs, some CSVs, or the runs of some, the largest family first.

    Damaged files are left out, as `fedspec.figures.draw_all` says.

    Raises:
        SetupError: there are no results.
    """
    families = group(load_runs(where).runs).families
    return [line for family in families for line in sentences(study(family))]


def sentences(found: Study) -> list[str]:
    """A study as lines of plain text."""
    lines = [f"{found.title}: {found.outcome.label}, mean of {rounds(found)}"]
    for alpha in found.alphas:
        lines += _alpha(alpha)
    if found.references:
        uneven = _uneven([*found.references, *(level for alpha in found.alphas for level in alpha.levels)])
        lines += [f"{label(level.method)}: {level_words(level, with_seeds=uneven)}" for level in found.references]
    if found.unfinished:
        lines.append(f"Not counted, unfinished: {', '.join(found.unfinished)}")
    return [*lines, *correction(found)]


def rounds(found: Study) -> str:
    """``rounds 16 to 20``: what is averaged."""
    alone = found.first_round == found.last_round
    return f"round {found.last_round}" if alone else f"rounds {found.first_round} to {found.last_round}"


def correction(found: Study) -> list[str]:
    """What is corrected and what is not, and when a difference is called one; nothing where nothing is tested."""
    among = max((comparison.among for comparison in found.comparisons), default=0)
    if not among:
        return []
    if among == 1:
        return [f"A paired t test, the only one here; better and worse are said below {THRESHOLD:.2f}."]
    return [
        f"Each interval is its own comparison's. Each p is a paired t test's, and Holm's correction is over all {among}"
        f" comparisons of {found.outcome.label} here; better and worse are said where the corrected p is below {THRESHOLD:.2f}."
    ]


def alpha_name(alpha: float | None) -> str:
    """``alpha 0.5``, or ``iid``."""
    return "iid" if alpha is None else f"alpha {alpha!r}"


def level_words(level: Level, *, with_seeds: bool) -> str:
    """``0.4046``, or ``0.4046 (3 seeds)``."""
    return f"{level.mean:.4f}" + (f" ({seeds(len(level.seeds))})" if with_seeds else "")


def seeds(number: int) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{number} seed{'' if number == 1 else 's'}"


def comparison_sentence(found: Comparison) -> str:
    """A comparison as one line, with its interval, what was corrected for how many, and its verdict."""
    relative = "" if found.relative_percent is None else f" ({found.relative_percent:+.2f} % relative)"
    text = f"{label(found.method)} - {label(found.baseline)}: {signed(found.points)} points{relative}"
    count = seeds(found.paired.seeds)
    if found.paired.half_width is None:
        reason = "" if found.paired.seeds == 1 else " without variance"
        return f"{text}, {count}{reason}: no interval, not significant"
    return f"{text}, 95 % interval {interval(found)}, {count}, {p_words(found)}: {verdict(found)}"


def interval(found: Comparison) -> str:
    """``-0.51 to +4.58``: the comparison's own; "" where there is none."""
    half = found.paired.half_width
    return "" if half is None else f"{signed(found.points - half)} to {signed(found.points + half)}"


def signed(points: float) -> str:
    """``+1.20``; zero is positive."""
    return f"{points + 0.0:+.2f}"


def p_words(found: Comparison) -> str:
    """``p = 0.012, corrected for 9 comparisons 0.11``."""
    return f"p {p_value(found.paired.p)}{_corrected(found.adjusted_p, found.among, 'comparisons')}"


def p_value(p: float | None) -> str:
    """``= 0.012``, with as many digits as show on which side of 0.05 it is; ``< 0.0001``; "" for none."""
    if p is None:
        return ""
    if p < 0.0001:
        return "< 0.0001"
    texts = (f"{p:.{digits}g}" for digits in range(2, 18))
    return f"= {next(text for text in texts if (float(text) < THRESHOLD) == (p < THRESHOLD))}"


def verdict(found: Comparison) -> str:
    """``FedSpec is better``, ``FedSpec is worse``, or that it is not significant, and whether the correction made it so."""
    if found.significant:
        return f"{label(found.method)} is {found.verdict}"
    alone = found.paired.p is not None and found.paired.p < THRESHOLD
    return "not significant after the correction" if alone else "not significant"


def best_sentence(found: Best) -> str:
    """Whether the best mean is the best method."""
    best, closest = label(found.method), label(found.closest)
    if found.p is None:
        return f"Best mean: {best}; whether it is better than each of the {found.rivals} others cannot be tested"
    p = f"p {p_value(found.p)}{_corrected(found.adjusted_p, found.among, 'alphas')}"
    test = f"closest: {closest}, {signed(found.points)} points, {p}"
    known = "better than" if found.significant else "not shown to be better than"
    return f"Best mean: {best}, {known} each of the {found.rivals} others ({test})"


def gap_sentence(ratio: float) -> str:
    """What the gap is, and that it is none of the results."""
    theorem = (
        "a theorem says at most 1; it is not a result" if ratio <= 1 + 1e-6 else "a theorem says at most 1: look for the error"
    )
    return f"On the same updates {label(CLAIM)}'s Frobenius gap is {ratio:.2f} times {label(BASELINE)}'s ({theorem})"


def _corrected(p: float | None, among: int, what: str) -> str:
    return f", corrected for {among} {what} {p_value(p).removeprefix('= ')}" if among > 1 else ""


def _alpha(found: AlphaStudy) -> list[str]:
    """The levels in one line, then a line per comparison, who is best, and what the gap is and is not."""
    uneven = _uneven(found.levels)
    levels = ", ".join(f"{label(level.method)} {level_words(level, with_seeds=uneven)}" for level in found.levels)
    lines = [f"{alpha_name(found.alpha)}: {levels}"]
    lines += [f"  {comparison_sentence(comparison)}" for comparison in found.comparisons]
    # Of two methods the comparison has said it.
    if found.best is not None and found.best.rivals > 1:
        lines.append(f"  {best_sentence(found.best)}")
    if found.gap_ratio is not None:
        lines.append(f"  {gap_sentence(found.gap_ratio)}")
    return lines


def _uneven(levels: Iterable[Level]) -> bool:
    return len({level.seeds for level in levels}) > 1
