"""Tensors and plain values as bytes, and back: what comes from a shared folder is bounded, and nothing in it is ever run.

What the values mean is for others.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from fedspec.errors import DamagedError

# Of what is in a generation beside tensors: the rows of as many rounds as there can be, and the names.
MAX_PICKLE_BYTES = 64 << 20
MAX_VALUES = 1_000_000
MAX_DEPTH = 32


def dump(payload: Mapping[str, Any]) -> bytes:
    """``payload``, plain values and CPU tensors nested in dicts, lists and tuples, as `torch.save` writes it."""
    import torch

    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def parse(data: bytes, what: str) -> dict[str, Any]:
    """The inverse of `dump`: tensors and plain values only, and nothing is ever unpickled into code.

    Args:
        what: the file's name, for the error.

    Raises:
        DamagedError: the bytes are nothing that `dump` writes.
    """
    import torch

    try:
        _check_archive(data)
        payload = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        _check_plain(payload)
    except Exception as error:  # torch.load documents no closed set of errors for hostile bytes
        raise DamagedError(f"The file {what} is no checkpoint.", "Nothing to do: an earlier round is used.") from error
    if not isinstance(payload, dict):
        raise DamagedError(f"The file {what} is no checkpoint.", "Nothing to do: an earlier round is used.")
    return payload


def _check_archive(data: bytes) -> None:
    """Raise unless it is a zip as torch.save writes it, which takes in memory what it takes on disk: nothing is packed, and no
    two entries share their bytes. Other forms that torch.load knows are older, and guarded less."""
    end = data[-22:]
    if data[:4] != b"PK\3\4" or end[:4] != b"PK\5\6" or end[20:] != b"\0\0":
        raise ValueError("no archive that ends with its own table")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size for entry in entries):
        raise ValueError("a packed archive")
    pickled = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if sum(entry.file_size for entry in entries) > len(data) or pickled > MAX_PICKLE_BYTES:
        raise ValueError("an archive that is larger inside than outside")


def _check_plain(payload: Any) -> None:
    """Raise unless it is what `dump` takes: dense tensors and plain values, in a tree that ends.

    A few bytes can say a list of lists of the same list, which is a billion values for whoever walks through it, and a tensor
    of one number that claims a billion rows.
    """
    import torch

    left, values = MAX_VALUES, [(payload, 0)]
    while values:
        value, depth = values.pop()
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise ValueError("too much in it")
        if isinstance(value, torch.Tensor):
            if type(value) is not torch.Tensor or value.layout != torch.strided or value.is_quantized:
                raise ValueError("no plain tensor")
            if value.numel() * value.itemsize > value.untyped_storage().nbytes():
                raise ValueError("a tensor that is larger than its numbers")
        elif isinstance(value, dict):
            values += [(inner, depth + 1) for pair in value.items() for inner in pair]
        elif isinstance(value, list | tuple):
            values += [(inner, depth + 1) for inner in value]
        elif not isinstance(value, str | int | float | None) or (type(value) is int and abs(value) >= 1 << 63):
            raise ValueError("no plain value")
