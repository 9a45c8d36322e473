"""``fedspec plot``: figures and the summary of what is there."""

from __future__ import annotations

from fedspec.figures import FIGURES
from tests.cli.conftest import TINY, Place


def test_without_results_it_says_what_to_do(place: Place):
    said = place.fedspec("plot")
    assert said.code == 3
    assert said.err.startswith("error: ")
    assert "\n  fix: " in said.err


def test_figures_and_summary_in_text_and_json(place: Place):
    place.fedspec("run", "quick", *TINY)
    said = place.fedspec("plot", "accuracy", "--output", "mine")
    assert said.code == 0
    assert "alpha 0.5: FedAvg 0." in said.out
    assert said.out.endswith("Figures: mine/accuracy.pdf\n")
    assert sorted(path.name for path in (place.root / "mine").iterdir()) == ["accuracy.pdf", "accuracy.png"]

    for path in (place.root / "paper_results").glob("*.csv"):
        path.unlink()  # as if no machine had published them yet: the journals have them too
    document = place.fedspec("plot", "accuracy", "--json").json
    assert any("FedAvg 0." in sentence for sentence in document["summary"])
    assert document["figures"][0].endswith("paper_results/figures/accuracy.pdf")


def test_an_unknown_figure_is_answered_with_the_known_ones(place: Place):
    said = place.fedspec("plot", "nope")
    assert said.code == 2
    assert said.err == f"error: There is no figure 'nope'.\n  fix: Choose from: {', '.join(FIGURES)}.\n"
