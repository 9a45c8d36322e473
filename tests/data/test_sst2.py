"""SST-2: GLUE's files as they are, what is wrong in them by line, and the hub's copy where they are missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedspec.data import sst2
from fedspec.errors import CapabilityError, DamagedError
from tests.data.conftest import write_sst2
from tests.hubkit import Hub, serving

CODE = """
import sys
from pathlib import Path
from fedspec.data import sst2
from fedspec.errors import CapabilityError
for _ in range(2):
    try:
        corpus = sst2.load(Path(sys.argv[1]))
        print(len(corpus.train), len(corpus.validation), len(corpus.test), corpus.test.sentences[1])
    except CapabilityError as error:
        print(error)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sst2(tmp_path)
    return tmp_path


def test_sentences_are_taken_as_they_are_with_their_labels(root: Path):
    corpus = sst2.load(root)
    assert [len(part) for part in (corpus.train, corpus.validation, corpus.test)] == [300, 1000, 30]
    assert corpus.test.sentences[1] == 'good film " number 1 '
    for part in (corpus.train, corpus.validation, corpus.test):
        assert part.labels.tolist() == [int(sentence.startswith("good")) for sentence in part.sentences]


@pytest.mark.parametrize("line", ["no label", "two\ttabs\t1", "a label\t2", "a word\tgood", "", "\t"])
def test_a_broken_line_is_named(root: Path, line: str):
    path = root / "SST-2" / "dev.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[3:]]) + "\n", encoding="utf-8")
    with pytest.raises(DamagedError, match=r"Line 4 of .*dev\.tsv") as caught:
        sst2.load(root)
    assert "Delete" in caught.value.fix


@pytest.mark.parametrize("content", [b"", b"label\tsentence\n", b"sentence\tlabel\n\xff\t1\n"])
def test_a_file_that_is_no_such_table_is_named(root: Path, content: bytes):
    (root / "SST-2" / "train.tsv").write_bytes(content)
    with pytest.raises(DamagedError, match=r"train\.tsv"):
        sst2.load(root)


def test_line_ends_of_windows_change_nothing(root: Path):
    path = root / "SST-2" / "dev.tsv"
    before = sst2.read(path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert sst2.read(path).sentences == before.sentences


def test_without_the_extra_a_missing_file_names_both_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CapabilityError) as caught:
        sst2.load(tmp_path)
    assert caught.value.fix == f'pip install "fedspec[text]", or put GLUE\'s train.tsv and dev.tsv into {tmp_path / "SST-2"}.'


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub on this machine that has SST-2."""
    arrow = pytest.importorskip("pyarrow", reason='needs pip install "fedspec[text]"')
    parquet = pytest.importorskip("pyarrow.parquet")
    write_sst2(tmp_path)
    served = {}
    for name, file in sst2.HUB_FILES.items():
        texts = sst2.read(tmp_path / "SST-2" / name)
        table = {"idx": range(len(texts)), "sentence": texts.sentences, "label": texts.labels.tolist()}
        parquet.write_table(arrow.table({key: list(values) for key, values in table.items()}), tmp_path / "table")
        served[f"/datasets/{sst2.HUB}/resolve/{sst2.REVISION}/{file}"] = (tmp_path / "table").read_bytes()
    with serving(served) as hub:
        yield hub


def test_what_is_missing_comes_from_the_hub_once(hub: Hub, tmp_path: Path):
    assert hub.run(CODE, tmp_path / "new", home=tmp_path / "home") == ['300 1000 30 good film " number 1 '] * 2
    for name in sst2.HUB_FILES:
        assert (tmp_path / "new" / "SST-2" / name).read_bytes() == (tmp_path / "SST-2" / name).read_bytes()
    assert {len([path for path in hub.asked if file in path]) for file in sst2.HUB_FILES.values()} == {2}  # its size, itself


def test_without_a_network_the_remedy_names_the_folder(hub: Hub, tmp_path: Path):
    first, second = hub.run(CODE, tmp_path / "new", home=tmp_path / "home", HF_HUB_OFFLINE="1")
    assert first == second
    assert first.startswith("The data set SST-2 is not here. (Put GLUE's train.tsv and dev.tsv into ")
    assert "or run once with a network connection (the download failed: " in first
    assert not hub.asked


def test_the_real_sst2_has_its_known_sizes(data_root: Path):
    corpus = sst2.load(data_root)
    assert [len(part) for part in (corpus.train, corpus.validation, corpus.test)] == [66_349, 1_000, 872]
    assert int(corpus.test.labels.sum()) == 444
