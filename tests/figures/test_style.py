"""Methods are told apart by anybody, on any paper."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from fedspec.federated.aggregators import AGGREGATORS
from fedspec.figures.style import OTHER_STYLES, in_order, label, styles

CORE = ("fedavg", "fedavg_rebalanced", "fedspec", "centralized")
# More than there are in one paper, registered or not.
MANY = [*AGGREGATORS, *(f"new{number}" for number in range(len(OTHER_STYLES) + 2 - len(AGGREGATORS)))]
# What is left of linear RGB to the severely colour-blind (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(color: str, eye: str = "usual") -> np.ndarray:
    """CIE L*a*b* of an sRGB colour as an eye sees it."""
    rgb = np.array([int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(EYES[eye] @ linear, 0, 1) / [0.95047, 1.0, 1.08883]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_core_methods_stay_apart_in_grey() -> None:
    looks = styles(CORE)
    for one, other in combinations(CORE, 2):
        assert abs(lab(looks[one].color)[0] - lab(looks[other].color)[0]) >= 10, (one, other)


def test_every_colour_shows_on_white() -> None:
    assert all(lab(look.color)[0] <= 75 for look in styles([*MANY, *CORE]).values())


@pytest.mark.parametrize("eye", EYES)
def test_any_two_methods_differ_in_colour_to_every_eye(eye: str) -> None:
    """A difference of 2.3 is just noticeable side by side."""
    looks = styles(MANY)
    for one, other in combinations(looks, 2):
        distance = np.linalg.norm(lab(looks[one].color, eye) - lab(looks[other].color, eye))
        assert distance >= 12, (one, other)


def test_any_two_methods_differ_in_marker_and_in_dashes() -> None:
    """In grey the markers tell them apart where they are points, and the dashes where markers are far between."""
    looks = styles(MANY)
    assert len(looks) >= 18
    for one, other in combinations(looks.values(), 2):
        assert (one.marker, one.filled) != (other.marker, other.filled)
        assert one.dashes != other.dashes or one.marker != other.marker


def test_references_have_no_markers_and_dashes_of_their_own() -> None:
    one, other = styles(["centralized", "linear_probe"]).values()
    assert (one.marker, other.marker) == ("", "")
    assert one.dashes != other.dashes


def test_the_projects_colours_are_what_the_paper_says() -> None:
    looks = styles(CORE)
    assert (looks["fedavg"].color, looks["fedavg"].marker, bool(looks["fedavg"].dashes)) == ("#0072B2", "o", True)
    assert (looks["fedspec"].color, looks["fedspec"].marker, looks["fedspec"].dashes) == ("#E69F00", "s", ())
    assert (looks["centralized"].color, looks["centralized"].marker) == ("#000000", "")


def test_a_method_looks_the_same_whoever_else_is_drawn() -> None:
    together = styles([*AGGREGATORS, "unknown"])
    assert all(styles([method])[method] == together[method] for method in AGGREGATORS)


def test_methods_come_in_the_registrys_order_and_references_last() -> None:
    given = ["centralized", "linear_probe", "unknown", *reversed(AGGREGATORS)]
    assert in_order(given) == [*AGGREGATORS, "unknown", "centralized", "linear_probe"]


def test_labels_come_from_the_registry() -> None:
    assert [label(method) for method in CORE] == ["FedAvg", "FedAvg rebalanced", "FedSpec", "Centralized"]
    assert (label("my_method"), label("linear_probe")) == ("my method", "Linear probe")
