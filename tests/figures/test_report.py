"""The report is one page that needs nothing else, says what the rows say, and passes on no mark-up of others."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.errors import SetupError
from fedspec.figures import FIGURES, Data
from fedspec.figures.markup import element, page
from fedspec.figures.report import Sources, report
from fedspec.plan import make_item

from .conftest import Folder

# What is not about figures needs none.
SOURCES = Sources(folder="share", figures=())
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """What a browser makes of a page: its elements with their attributes, and its text."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(content.decode())
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("a", "code", "em", "strong"):
            self.words.append(" ")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, bytes]:
    folder = Folder(tmp_path_factory.mktemp("results"))
    folder.grid({"fedavg": 0.8, "fedavg_rebalanced": 0.84, "fedspec": 0.85}, seeds=2, rounds=3, centralized=0.95)
    folder.add(FederatedConfig(seed=9, rounds=3), 0.5, done=1)
    return folder, report(folder.path, replace(SOURCES, figures=tuple(FIGURES)))


def test_the_page_loads_nothing_from_anywhere(full: tuple[Folder, bytes]) -> None:
    found = Page(full[1])
    policy = next(meta["content"] for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert not {tag for tag, _ in found.elements} & {"script", "link", "iframe", "object", "base", "form"}
    for _, attributes in found.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "action", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:image/svg+xml;base64,", "#"))
    assert b"url(" not in full[1]
    assert b"@import" not in full[1]


def test_every_figure_is_inside_or_says_why_it_is_not(full: tuple[Folder, bytes]) -> None:
    found = Page(full[1])
    assert all(entry.label in found.text for entry in FIGURES.values())
    words = {image["alt"] for image in found.all("img")}
    missing = {"learning_rate", "client_labels"}
    assert words == {f"{FIGURES[n].label}: digits, mlp, 10 clients, 3 rounds" for n in FIGURES if n not in missing}
    assert "Labels of each client: not drawn, because the results do not name their partition" in found.text


def test_the_page_is_the_same_bytes_again(full: tuple[Folder, bytes]) -> None:
    assert report(full[0].path, Sources(folder="share")) == full[1]


def test_the_sentences_are_the_summarys(full: tuple[Folder, bytes]) -> None:
    from fedspec.figures.summary import summarize_files

    said = Page(full[1]).text
    first, *rest = summarize_files(full[0].path)
    assert first.partition(": ")[0] in said
    for line in rest:
        head, _, tail = line.strip().partition(":")
        assert f"{head[:1].upper()}{head[1:]}:{tail}" in said or line.strip() in said


def test_what_was_run_and_what_is_unfinished_is_told(full: tuple[Folder, bytes]) -> None:
    text = Page(full[1]).text
    assert "9 experiments, from share." in text
    assert "Not counted, unfinished: fedavg_dirichlet_alpha0.5_r3_s9 (1 of 3 rounds)" in text
    assert "FedAvg 0.02 4 0.5 1 to 2, 9 3 10 of 10" in text
    assert "There is no plan for these experiments: the queue of this folder does not know them." in text


def test_what_the_queue_has_without_a_result_is_told(folder: Folder) -> None:
    folder.level(2, 0.5, fedavg=[0.8])
    text = Page(report(folder.path, replace(SOURCES, unfinished=("fedspec_x: failed (out of memory)",)))).text
    assert "In the queue and without a result: fedspec_x: failed (out of memory)" in text
    assert "Nothing: every experiment" in Page(report(folder.path, SOURCES)).text


def test_what_was_left_out_is_told(folder: Folder) -> None:
    folder.level(2, 0.5, fedavg=[0.8])
    (folder.path / "bad.csv").write_bytes(b"\0")
    folder.add(CentralizedConfig(rounds=7), 0.9)
    text = Page(report(folder.path, SOURCES)).text
    assert "bad.csv is no result CSV" in text
    assert "Left out: no federated experiment here matches centralized_r7." in text


def test_experiments_that_the_queue_knows_have_their_settings_and_their_plan(folder: Folder) -> None:
    items = {}
    for method in ("fedavg", "fedspec"):
        for seed in (1, 2):
            config = FederatedConfig(method=method, seed=seed, rounds=2, weight_decay=0.25 if method == "fedspec" else 0.0)
            item = make_item("federated", config)
            items[item.id] = item
            folder.add(config, 0.8, name=f"{method}_dirichlet_alpha0.5_r2_s{seed}", columns={"run_id": item.id})
    sources = replace(SOURCES, data=Data(items=items))
    text = Page(report(folder.path, sources)).text
    assert "weight_decay FedAvg 0.0; FedSpec 0.25" in text
    assert "[method.fedspec] weight_decay = 0.25" in text
    assert "fedspec run mine.toml --workspace share" in text
    other = make_item("federated", FederatedConfig(seed=3, rounds=2))
    known = Page(report(folder.path, replace(sources, plans={"big": [*items.values(), other], "mine": [*items.values()]}))).text
    assert "fedspec run mine --workspace share" in known
    assert "mine.toml" not in known


def test_several_families_have_a_section_each_and_a_list_of_them(folder: Folder) -> None:
    folder.level(2, 0.5, fedavg=[0.8, 0.82], fedspec=[0.8, 0.85])
    folder.level(3, 0.5, fedavg=[0.8])
    found = Page(report(folder.path, SOURCES))
    ids = {heading["id"] for heading in found.all("h2") if "id" in heading}
    assert {link["href"] for link in found.all("a")} == {f"#{slug}" for slug in ids}
    assert len(ids) == 2
    assert "5 experiments in 2 families that may not be compared with one another" in found.text


MARKUP = "<script>alert(1)</script>\"' onload=x & <img src=//e.org>"


def test_whatever_stands_in_a_csv_is_text(folder: Folder) -> None:
    for seed in (1, 2):
        folder.add(FederatedConfig(seed=seed, rounds=2), 0.8)
        config = FederatedConfig(seed=seed, rounds=2, dataset=MARKUP, model=MARKUP)
        path = folder.add(config, 0.8 + seed / 50, name=f"{seed} odd", columns={"device": MARKUP, "torch_version": MARKUP})
        quoted = MARKUP.replace('"', '""')
        path.write_text(path.read_text().replace(",fedavg,", f',"{quoted}",').replace("\nfedavg,", f'\n"{quoted}",'))
    folder.add(FederatedConfig(rounds=2), 0.8, name="fedavg_&lt;b&gt;")
    content = report(folder.path, replace(SOURCES, folder=MARKUP, unfinished=(MARKUP,), figures=("accuracy", "client_labels")))
    found = Page(content)
    assert not {tag for tag, _ in found.elements} & {"script", "b"}
    assert all((image["src"] or "").startswith("data:") for image in found.all("img"))
    assert found.text.count("<script>alert(1)</script>") > 5
    assert ", &lt;b&gt;" in found.text


def test_controls_and_halves_of_characters_do_not_reach_the_page() -> None:
    content = page("a\x00b\x1b", [element("p", "x\x07y\ud800z \u202e", title="\x00<")])
    assert Page(content).elements[-1] == ("p", {"title": "<"})
    assert "xyz " in Page(content).words
    assert b"\x00" not in content
    assert b"<title>ab</title>" in content


def test_text_after_an_element_stays_after_it() -> None:
    content = page("", [element("p", "a ", element("strong", "b"), " c", element("em", "d"), "e")])
    assert b"<p>a <strong>b</strong> c<em>d</em>e</p>" in content


def test_without_results_there_is_no_report(folder: Folder) -> None:
    with pytest.raises(SetupError, match="fedspec run quick"):
        report(folder.path, SOURCES)


@pytest.mark.parametrize("runs", [{"fedavg": [0.8]}, {"fedspec": [0.9, 0.91]}, {"mine": [0.5]}])
def test_a_report_can_be_made_of_the_smallest_results(runs: dict[str, list[float]], folder: Folder, tmp_path: Path) -> None:
    folder.level(1, 0.5, **runs)
    assert "What was run" in Page(report(folder.path, replace(SOURCES, figures=tuple(FIGURES)))).text
