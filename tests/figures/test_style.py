"""Methods are told apart by anybody, on any paper."""

from __future__ import annotations

from itertools import combinations

from fedspec.federated.aggregators import AGGREGATORS
from fedspec.figures.style import OTHER_STYLES, in_order, label, styles

CORE = ("fedavg", "fedavg_rebalanced", "fedspec", "centralized")


def lightness(color: str) -> float:
    """CIE L* of an sRGB colour, 0 to 100: what is left of it in grey."""
    linear = []
    for start in (1, 3, 5):
        value = int(color[start : start + 2], 16) / 255
        linear.append(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


def test_the_core_methods_stay_apart_in_grey() -> None:
    looks = styles(CORE)
    for one, other in combinations(CORE, 2):
        assert abs(lightness(looks[one].color) - lightness(looks[other].color)) >= 10, (one, other)


def test_every_colour_shows_on_white() -> None:
    assert all(lightness(look.color) <= 75 for look in styles([*AGGREGATORS, *CORE, "a", "b"]).values())


def test_any_two_methods_differ_in_colour_and_in_marker_or_dashes() -> None:
    looks = styles([*CORE, *(f"new{number}" for number in range(len(OTHER_STYLES) - len(AGGREGATORS) + 2))])
    for one, other in combinations(looks.values(), 2):
        assert one.color != other.color
        assert (one.marker, one.dashes) != (other.marker, other.dashes)


def test_the_projects_colours_are_what_the_paper_says() -> None:
    looks = styles(CORE)
    assert (looks["fedavg"].color, looks["fedavg"].marker, bool(looks["fedavg"].dashes)) == ("#0072B2", "o", True)
    assert (looks["fedspec"].color, looks["fedspec"].marker, looks["fedspec"].dashes) == ("#E69F00", "s", ())
    assert (looks["centralized"].color, looks["centralized"].marker) == ("#000000", "")


def test_a_method_looks_the_same_whoever_else_is_drawn() -> None:
    together = styles([*AGGREGATORS, "unknown"])
    assert all(styles([method])[method] == together[method] for method in AGGREGATORS)


def test_methods_come_in_the_registrys_order_and_centralized_last() -> None:
    assert in_order(["centralized", "unknown", *reversed(AGGREGATORS)]) == [*AGGREGATORS, "unknown", "centralized"]


def test_labels_come_from_the_registry() -> None:
    assert [label(method) for method in CORE] == ["FedAvg", "FedAvg rebalanced", "FedSpec", "Centralized"]
    assert label("my_method") == "my method"
