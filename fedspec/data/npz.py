"""Arrays of one's own: an ``.npz`` file with ``x`` and ``y``, or with ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

Nothing is ever unpickled. What the arrays mean, and how they are scaled, is their owner's business.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedspec.data.base import Dataset, Split, data_folder, fixed_order
from fedspec.errors import CapabilityError, DamagedError, ExperimentError

# Of all samples, and of those that are not for the test.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
DIGEST_DIGITS = 12
CHANNELS = (1, 3, 4)

Arrays = dict[str, NDArray[Any]]


def load(root: Path | None, file: str, digest: str = "") -> Dataset:
    """The arrays of ``file``, split three ways by an order that depends on nothing but their number.

    ``x`` is (n, ...): whole numbers and floats are taken as they are, uint8 is divided by 255, and images whose last axis alone
    is 1, 3 or 4 long get their channels first: (n, height, width, channels) becomes (n, channels, height, width). ``y`` is
    (n,) whole numbers from 0 without gaps. An array ``classes`` names the classes, and so says how many there are. Without
    ``x_test`` a fifth of the samples is for the test; of what remains a tenth is for validation.

    Args:
        root: the data folder, to which ``file`` is relative unless it is an absolute path.
        digest: what the SHA-256 of the file must begin with, in hex.

    Raises:
        CapabilityError: the file is not on this machine, or is another one than ``digest`` names.
        DamagedError: it is no npz file.
        ExperimentError: the arrays are not of these shapes and types, or not finite.
    """
    path = locate(root, file)
    if digest and not (found := digest_of(path)).startswith(digest):
        raise CapabilityError(
            f"{path} holds other arrays than this experiment was made for: its SHA-256 begins with {found[: len(digest)]}, "
            f"not with {digest}.",
            "Copy the file from the machine that enqueued the experiment.",
        )
    return from_arrays(read(path), path.name)


def locate(root: Path | None, file: str) -> Path:
    """The path of ``file``. Raises CapabilityError if it is not there."""
    given = Path(file).expanduser()
    path = given if given.is_absolute() else data_folder(root, f"The file {file}") / given
    if not path.is_file():
        raise CapabilityError(
            f"There is no file {path}.",
            "Put it there, or set data_file to its place: relative to the data folder, or absolute.",
        )
    return path


def digest_of(path: Path) -> str:
    """The SHA-256 of the file's bytes, in hex. Raises DamagedError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error}.", "Check that you may read it.") from error


def read(path: Path) -> Arrays:
    """All arrays of an npz file.

    Raises:
        DamagedError: it is no npz file, or an array in it is one of Python objects, which would have to be unpickled.
    """
    try:
        # Opened here: numpy leaves a file open that turns out to be no archive.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            arrays = {name: archive[name] for name in archive.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("it holds other files")
        return arrays
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        why = "an array of Python objects" if "allow_pickle" in str(error) else str(error)
        raise DamagedError(
            f"{path} is no npz file of plain arrays: {why.rstrip('.')}.", "Write it with numpy.savez from arrays of numbers."
        ) from error


def from_arrays(arrays: Arrays, name: str) -> Dataset:
    """The data set of arrays; ``name`` is for errors, which are as those of `load`."""
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        train, test = (_samples(arrays, f"_{part}", name) for part in ("train", "test"))
    elif {"x", "y"} <= arrays.keys():
        every = _samples(arrays, "", name)
        order = fixed_order(len(every))
        held_out = _share(len(every), TEST_SHARE)
        train, test = _taken(every, order[held_out:]), _taken(every, order[:held_out])
    else:
        has = ", ".join(sorted(arrays)) or "nothing"
        raise ExperimentError(f"{name} has {has}.", "It needs x and y, or x_train, y_train, x_test and y_test.")
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        shapes = f"{tuple(train.inputs.shape[1:])} in x_train and {tuple(test.inputs.shape[1:])} in x_test"
        raise ExperimentError(f"The samples of {name} are {shapes}.", "Give all samples one shape.")
    order = fixed_order(len(train))
    held_out = _share(len(train), VALIDATION_SHARE)
    return Dataset(
        train=_taken(train, order[held_out:]),
        validation=_taken(train, order[:held_out]),
        test=test,
        classes=_classes(arrays, torch.cat([train.labels, test.labels]), name),
    )


def _samples(arrays: Arrays, suffix: str, name: str) -> Split:
    x, y = arrays[f"x{suffix}"], arrays[f"y{suffix}"]
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise ExperimentError(
            f"In {name} x{suffix} is {x.shape} and y{suffix} is {y.shape}.",
            "x must be (n, ...) with at least two axes, y must be (n,), and n the same.",
        )
    if not (x.dtype == bool or np.issubdtype(x.dtype, np.integer) or np.issubdtype(x.dtype, np.floating)):
        raise ExperimentError(f"In {name} x{suffix} is of the type {x.dtype}.", "Store real numbers, such as float32.")
    if not np.issubdtype(y.dtype, np.integer):
        raise ExperimentError(f"In {name} y{suffix} is of the type {y.dtype}.", "Store whole numbers, such as int64.")
    with np.errstate(over="ignore"):  # what does not fit is found below
        inputs = torch.from_numpy(x.astype(np.float32))
    if x.dtype == np.uint8:
        inputs.div_(255)
    if not inputs.isfinite().all():
        raise ExperimentError(
            f"In {name} x{suffix} has values that are no finite float32 numbers.", "Remove or replace them, or scale them."
        )
    if inputs.dim() == 4 and inputs.shape[3] in CHANNELS and inputs.shape[1] not in CHANNELS:
        inputs = inputs.permute(0, 3, 1, 2).contiguous()
    return Split(inputs, torch.from_numpy(y.astype(np.int64)))


def _classes(arrays: Arrays, labels: torch.Tensor, name: str) -> int:
    if "classes" in arrays:
        return int(arrays["classes"].size)
    present = labels.unique()
    if not torch.equal(present, torch.arange(len(present))):
        shown = ", ".join(str(int(label)) for label in present[:5]) + (" ..." if len(present) > 5 else "")
        raise ExperimentError(
            f"The labels of {name} are {shown}: not 0, 1, 2 ... without gaps.",
            "Renumber them: y = numpy.unique(y, return_inverse=True)[1]; or name all classes in an array 'classes'.",
        )
    return len(present)


def _share(samples: int, share: float) -> int:
    """How many samples a share is: at least one, where there are two."""
    return max(int(samples * share), min(1, samples - 1))


def _taken(split: Split, which: NDArray[np.int64]) -> Split:
    return split.take(torch.from_numpy(which))
