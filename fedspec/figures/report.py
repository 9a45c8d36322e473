"""One page that shows everything: what was run, what came out, what is missing, and how to make it again."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import fedspec
from fedspec.errors import CapabilityError
from fedspec.figures import FIGURES, Data, draw_images
from fedspec.figures.comparisons import OUTCOMES, Study, study
from fedspec.figures.families import REFERENCES, Family, Grouping, by_alpha, group
from fedspec.figures.markup import element, image, page
from fedspec.figures.panels import NothingToDraw
from fedspec.figures.recipe import identity, recipe
from fedspec.figures.runs import Run, load_runs
from fedspec.figures.style import in_order, label
from fedspec.figures.summary import sentences
from fedspec.figures.tables import bytes_table, differences_table, levels_table
from fedspec.figures.typeset import NONE, Table, to_latex
from fedspec.plan import Item, effective

# What draws and computes here; what trained is in the rows.
TOOLS = ("matplotlib", "numpy", "scipy")
# It belongs to the verdicts.
FOREST = "differences"


@dataclass(frozen=True, slots=True)
class Sources:
    """What a report knows besides the CSVs.

    Attributes:
        folder: the name of the folder that they are in; not where that is, so that the page is the same on all machines.
        unfinished: a sentence for each experiment of the queue that has no result.
        plans: the experiments of the plans that have a name.
        data: the experiments of the queue, and where data sets lie.
        figures: which are shown; drawing them is what a page takes its time for.
    """

    folder: str
    unfinished: Sequence[str] = ()
    plans: Mapping[str, Sequence[Item]] = field(default_factory=dict)
    data: Data = field(default_factory=Data)
    figures: Sequence[str] = tuple(FIGURES)


def report(results: Path | Iterable[Path], sources: Sources) -> bytes:
    """The page as UTF-8 HTML, the same bytes for the same results; it loads nothing from anywhere.

    Raises:
        SetupError: there are no results.
    """
    runs, damaged = load_runs(results)
    grouping = group(runs)
    title = f"fedspec report: {sources.folder}"
    content = [
        element("h1", "Federated experiments: what came out"),
        element("p", _headline(grouping, runs, sources), class_="soft"),
        *_contents(grouping.families),
        *(found for family in grouping.families for found in _family(family, sources)),
        *_missing([*damaged, *grouping.notes], sources),
        *_versions(runs),
    ]
    return page(title, content)


def _headline(grouping: Grouping, runs: Sequence[Run], sources: Sources) -> str:
    families = len(grouping.families)
    kinds = "" if families == 1 else f" in {families} families that may not be compared with one another"
    return f"{_count(len(runs), 'experiment')}{kinds}, from {sources.folder}."


def _contents(families: Sequence[Family]) -> Iterator[Element]:
    if len(families) > 1:
        links = (element("li", element("a", family.key.title, href=f"#{family.key.slug}")) for family in families)
        yield element("nav", element("ul", *links))


def _family(family: Family, sources: Sources) -> Iterator[Element]:
    first, *others = (study(family, outcome) for outcome in OUTCOMES)
    yield element("h2", family.key.title, id=family.key.slug)
    yield element("h3", "What came out")
    yield from _figures(family, [name for name in sources.figures if name == FOREST], sources)
    yield from _sentences(first)
    yield from _tables(levels_table(first), differences_table(first))
    yield element("h3", "Figures")
    yield from _figures(family, [name for name in sources.figures if name != FOREST], sources)
    yield element("h3", "Other outcomes")
    yield from _tables(
        *(table for other in others for table in (levels_table(other), differences_table(other))), bytes_table(family)
    )
    yield element("h3", "What was run")
    yield from _configuration(family, sources)
    yield element("h3", "How to make it again")
    yield from _reproduction(family, sources)


def _sentences(found: Study) -> Iterator[Element]:
    """The summary: what belongs to one alpha as a list below it."""
    for line in sentences(found):
        if not line.startswith(" "):
            head, colon, rest = line.removeprefix(f"{found.title}: ").partition(":")
            head = head[:1].upper() + head[1:]
            yield element("p", element("strong", head + colon), rest) if colon else element("p", head)
            below = element("ul")
        else:
            if not len(below):
                yield below
            below.append(element("li", line.strip()))


def _figures(family: Family, names: Iterable[str], sources: Sources) -> Iterator[Element]:
    for name in names:
        caption = FIGURES[name].label
        try:
            (svg,) = draw_images(name, family, ["svg"], sources.data)
        except NothingToDraw as nothing:
            yield element("p", f"{caption}: not drawn, because {nothing}.", class_="soft")
        else:
            yield element("figure", image(svg, f"{caption}: {family.key.title}"), element("figcaption", f"{caption}."))


def _tables(*found: Table) -> Iterator[Element]:
    for table in found:
        if table.rows:
            sides = ["" if column < table.texts else "right" for column in range(len(table.header))]
            head = element("tr", *(_cell("th", name, side) for name, side in zip(table.header, sides, strict=True)))
            rows = [
                element("tr", *(_cell("td", cell.text, side, bold=cell.bold) for cell, side in zip(row, sides, strict=True)))
                for row in table.rows
            ]
            yield element("div", element("table", element("caption", table.title), head, *rows), class_="wide")
            yield element("p", table.note, class_="soft")
            source = element("pre", element("code", to_latex(table).decode()))
            yield element("details", element("summary", "The same for LaTeX"), source)


def _cell(tag: str, text: str, side: str, *, bold: bool = False) -> Element:
    classes = " ".join(word for word in (side, text if text in ("better", "worse") else "") if word)
    return element(tag, element("strong", text) if bold else text, **({"class": classes} if classes else {}))


def _configuration(family: Family, sources: Sources) -> Iterator[Element]:
    """A line per method, and below it every setting that the queue knows."""
    shown = (*family.runs, *family.references)
    header = ("Method", "Learning rate", "Rank", "Alphas", "Seeds", "Runs", "Clients a round", "Device")
    rows = [
        _method_row(method, [run for run in shown if run.method == method]) for method in in_order({r.method for r in shown})
    ]
    yield _plain_table(header, rows)
    settings = _settings(_items(family, sources))
    if settings:
        yield element("details", element("summary", "Every setting"), _plain_table(("Key", "Value"), settings))
    else:
        yield element(
            "p", "The queue of this folder does not know these experiments: there is no more than the rows say.", class_="soft"
        )


def _method_row(method: str, runs: Sequence[Run]) -> tuple[str, ...]:
    alphas = sorted({run.alpha for run in runs}, key=by_alpha)
    clients = {f"{run.first('participating')} of {run.first('n_clients')}" for run in runs}
    return (
        label(method),
        _listed({run.first("lr") for run in runs}),
        _listed({run.first("rank") for run in runs}),
        NONE if method in REFERENCES else ", ".join("iid" if alpha is None else repr(alpha) for alpha in alphas),
        _ranges({run.seed for run in runs}),
        str(len(runs)),
        ", ".join(sorted(clients)),
        ", ".join(sorted({row.device for run in runs for row in run.rows if row.device})) or NONE,
    )


def _plain_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Element:
    head = element("tr", *(element("th", name) for name in header))
    return element(
        "div",
        element("table", head, *(element("tr", *(element("td", text, class_="text") for text in row)) for row in rows)),
        class_="wide",
    )


def _items(family: Family, sources: Sources) -> list[Item]:
    ids = (str(run.first("run_id")) for run in (*family.runs, *family.references))
    return [sources.data.items[item_id] for item_id in ids if item_id in sources.data.items]


def _settings(items: Sequence[Item]) -> list[tuple[str, str]]:
    """Every key of the configurations with its value, or its values by method where they differ."""
    by_key: dict[str, dict[str, set[str]]] = {}
    for item in items:
        try:
            effective(item)
        except CapabilityError:
            continue
        for key, value in item.config.items():
            by_key.setdefault(key, {}).setdefault(str(item.config.get("method", item.kind)), set()).add(str(value))
    rows = []
    for key, by_method in sorted(by_key.items()):
        if len({frozenset(values) for values in by_method.values()}) == 1:
            rows.append((key, _listed(next(iter(by_method.values())))))
        else:
            rows.append((key, "; ".join(f"{label(method)} {_listed(by_method[method])}" for method in in_order(by_method))))
    return rows


def _reproduction(family: Family, sources: Sources) -> Iterator[Element]:
    items = _items(family, sources)
    known = [name for name, planned in sources.plans.items() if _are_in(items, planned)]
    after = [f"fedspec plot --workspace {_quoted(sources.folder)}", f"fedspec report --workspace {_quoted(sources.folder)}"]
    if known:
        smallest = min(known, key=lambda name: len(sources.plans[name]))
        yield _code([f"fedspec run {smallest} --workspace {_quoted(sources.folder)}", *after])
        return
    found = recipe(items, family.key.title) if items else None
    if found is None:
        why = "their settings are not those of one plan" if items else "the queue of this folder does not know them"
        yield element("p", f"There is no plan for these experiments: {why}. The page itself:")
        yield _code(after)
        return
    more = f" (it has {_count(found.more, 'experiment')} more)" if found.more else ""
    yield element("p", f"Save this as mine.toml{more}, then run it in an empty folder of your own or in this one:")
    yield _code(found.text.splitlines())
    yield _code([f"fedspec run mine.toml --workspace {_quoted(sources.folder)}", *after])


def _are_in(items: Sequence[Item], planned: Sequence[Item]) -> bool:
    """Whether there are items, and all of them are in a plan."""
    try:
        return bool(items) and {identity(item) for item in items} <= {identity(item) for item in planned}
    except CapabilityError:
        return False


def _missing(notes: Sequence[str], sources: Sources) -> Iterator[Element]:
    yield element("h2", "What is missing")
    if sources.unfinished:
        yield element("p", "In the queue and without a result:")
        yield element("ul", *(element("li", line) for line in sources.unfinished))
    if notes:
        yield element("p", "Left out of figures and tables, or shown in one of them alone:")
        yield element("ul", *(element("li", note) for note in notes))
    if not sources.unfinished and not notes:
        yield element("p", "Nothing: every experiment of the queue has its result, and every result is shown.")


def _versions(runs: Sequence[Run]) -> Iterator[Element]:
    trained = sorted({row.torch_version for run in runs for row in run.rows if row.torch_version})
    drawn = ", ".join(f"{name} {version(name)}" for name in TOOLS)
    yield element("h2", "Versions")
    yield element(
        "ul",
        element("li", f"fedspec {fedspec.__version__}, Python {platform.python_version()}; this page: {drawn}"),
        element("li", f"Trained with PyTorch {', '.join(trained) or 'of an unknown version'}"),
        element(
            "li", "The versions that the project is tested with are in constraints.txt: pip install -c constraints.txt -e ."
        ),
    )


def _code(lines: Iterable[str]) -> Element:
    return element("pre", element("code", "\n".join(lines)))


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(values)))


def _ranges(numbers: Iterable[int]) -> str:
    """``1, 42 to 46``."""
    ends: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ends and number == ends[-1][1] + 1:
            ends[-1] = (ends[-1][0], number)
        else:
            ends.append((number, number))
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in ends)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
