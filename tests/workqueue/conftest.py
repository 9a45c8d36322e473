"""What the queue's tests share: `queuekit` and a folder with machines around it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves helpers beside the tests unfound

from queuekit import Share


@pytest.fixture
def share() -> Share:
    return Share()
