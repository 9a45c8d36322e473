"""SST-2 as GLUE has it: single sentences of film reviews, negative or positive, in ``<root>/SST-2/train.tsv`` and ``dev.tsv``.

Socher et al. 2013, "Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank"; Wang et al. 2019,
arXiv 1804.07461. Where the files are missing they are written once from the Hugging Face hub's copy.
"""

from __future__ import annotations

from pathlib import Path

import torch

from fedspec.data.base import Corpus, Texts, data_folder, fixed_order
from fedspec.downloads import TEXT_EXTRA, fetching
from fedspec.errors import CapabilityError, DamagedError

VALIDATION_SAMPLES = 1_000
AGAIN = "Delete {path}; it will be downloaded again."
HEADER = "sentence\tlabel"
LABELS = ("0", "1")
# GLUE's file -> the hub's, at the commit that was looked at.
HUB, REVISION = "stanfordnlp/sst2", "8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb"
HUB_FILES = {
    "train.tsv": "data/train-00000-of-00001.parquet",
    "dev.tsv": "data/validation-00000-of-00001.parquet",
}


def load(root: Path | None) -> Corpus:
    """SST-2: 66,349 training, 1,000 validation and 872 test sentences.

    GLUE keeps the labels of its test part to itself, so that papers report its dev part, and so does this: it is the test part
    here, and validation is cut from the training part. Many training samples are phrases out of one sentence, so that
    validation reads better than the test.

    Args:
        root: the data folder; what is missing is written into it.

    Raises:
        CapabilityError: no data folder was named, or the files are neither there nor can be downloaded.
        DamagedError: a file is not the TSV that it should be.
    """
    folder = data_folder(root, "SST-2") / "SST-2"
    if not all((folder / name).is_file() for name in HUB_FILES):
        _download(folder)
    every, test = (read(folder / name) for name in HUB_FILES)
    order = torch.from_numpy(fixed_order(len(every)))
    return Corpus(
        train=every.take(order[VALIDATION_SAMPLES:]), validation=every.take(order[:VALIDATION_SAMPLES]), test=test, classes=2
    )


def read(path: Path) -> Texts:
    """The sentences of a GLUE TSV: a header, then ``sentence TAB label``, nothing quoted.

    Raises:
        DamagedError: a line is of another form.
    """
    try:
        header, *lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path} cannot be read as text: {error}.", AGAIN.format(path=path)) from error
    if header.rstrip("\r") != HEADER:
        raise DamagedError(f"{path} does not begin with the header of SST-2: {header[:40]!r}.", AGAIN.format(path=path))
    sentences, labels = [], []
    for number, line in enumerate(lines, start=2):
        sentence, tab, label = line.rstrip("\r").rpartition("\t")
        if not tab or "\t" in sentence or label not in LABELS:
            why = f"Line {number} of {path} is no sentence, tab and label 0 or 1: {line[:40]!r}."
            raise DamagedError(why, AGAIN.format(path=path))
        sentences.append(sentence)
        labels.append(int(label))
    return Texts(tuple(sentences), torch.tensor(labels, dtype=torch.int64))


def _download(folder: Path) -> None:
    by_hand = f"Put GLUE's {' and '.join(HUB_FILES)} into {folder}"
    with fetching("The data set SST-2", folder / ".download.lock", by_hand):
        try:
            import pyarrow.parquet
            from huggingface_hub import hf_hub_download
        except ImportError as error:
            fix = f"{TEXT_EXTRA}, or {by_hand[0].lower()}{by_hand[1:]}."
            raise CapabilityError(f"Downloading SST-2 needs packages of the extra text ({error}).", fix) from error
        for name, file in HUB_FILES.items():
            if not (folder / name).is_file():
                table = pyarrow.parquet.read_table(
                    hf_hub_download(HUB, file, repo_type="dataset", revision=REVISION), columns=["sentence", "label"]
                )
                rows = zip(table["sentence"].to_pylist(), table["label"].to_pylist(), strict=True)
                text = "".join(f"{line}\n" for line in (HEADER, *(f"{sentence}\t{label}" for sentence, label in rows)))
                # Whoever looks without the lock sees a whole file or none.
                part = folder / f"{name}.part"
                part.write_text(text, encoding="utf-8", newline="\n")
                part.replace(folder / name)
