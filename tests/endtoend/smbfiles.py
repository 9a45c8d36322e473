"""The whole files port over SMB, as a Windows machine goes about a share.

The kernel here may have no SMB client, so that the one of the package smbprotocol stands in for it. It caches nothing, and it
shares its open files as Windows does: nobody can replace or delete a file while another reads it.
"""

from __future__ import annotations

import errno
import functools
import math
import secrets
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from smberrors import IN_USE, explained, plain
from smbprotocol.connection import Connection
from smbprotocol.exceptions import NoMoreFiles
from smbprotocol.file_info import FileFsFullSizeInformation, FileInformationClass, FileRenameInformation
from smbprotocol.open import CreateDisposition as Disposition
from smbprotocol.open import CreateOptions as Options
from smbprotocol.open import (
    FileAttributes,
    ImpersonationLevel,
    Open,
    ShareAccess,
    SMB2QueryDirectoryResponse,
    SMB2QueryInfoRequest,
    SMB2QueryInfoResponse,
    SMB2SetInfoRequest,
)
from smbprotocol.open import FilePipePrinterAccessMask as Access
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from fedspec.files import DiskFiles
from fedspec.files.disk import patiently

LOCK_POLL_S = 0.02
# What one credit pays for: larger requests would have to ask the server for more of them first.
PIECE_BYTES = 64 << 10

# As Python opens files on Windows: others may read and write meanwhile, but neither delete nor replace.
FRIENDLY = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE
# As Windows itself does where it opens a file only to rename, to delete or to look at it.
ANY = FRIENDLY | ShareAccess.FILE_SHARE_DELETE

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Share:
    """How to reach a share, and the folder that its files are in on the server."""

    host: str
    port: int
    name: str
    user: str
    password: str
    folder: Path


def on_the_share(method: Callable[..., T]) -> Callable[..., T]:
    """Only what is below the mount point is the share's; all else is on the machine's own disk."""

    @functools.wraps(method)
    def routed(self: SmbFiles, path: Path, *rest: Any, **more: Any) -> T:
        if not path.is_relative_to(self.mount):
            return getattr(self.local, method.__name__)(path, *rest, **more)
        self.calls[method.__name__] += 1
        return method(self, path, *rest, **more)

    return routed


class SmbFiles:
    """Files on a share that this machine sees at ``mount``, where its own disk need not have anything.

    Attributes:
        calls: how often each operation was asked for; ``requests``: how many messages that took, each a way to the server
            and back.
    """

    def __init__(self, share: Share, mount: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self.share, self.mount, self.sleep = share, mount, sleep
        self.local = DiskFiles(sleep)
        self.tag = secrets.token_hex(4)
        self.calls: Counter[str] = Counter()
        self.requests = 0
        self._tree: TreeConnect | None = None
        self._connecting = threading.Lock()

    def close(self) -> None:
        """Disconnect, as the death of the process would; the server lets go of every lock."""
        with self._connecting:
            tree, self._tree = self._tree, None
            if tree is not None:
                tree.session.connection.disconnect(close=False)

    @on_the_share
    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        """The file's bytes from ``offset`` on, at most ``limit`` of them."""

        def attempt() -> bytes:
            with self._open(path, Access.FILE_READ_DATA, FRIENDLY) as file:
                end = file.end_of_file if limit < 0 else min(file.end_of_file, offset + limit)
                pieces = []
                for at in range(offset, end, PIECE_BYTES):
                    pieces.append(self._asked(file.read, at, min(end - at, PIECE_BYTES)))
                return b"".join(pieces)

        return self._patiently(attempt)

    @on_the_share
    def size(self, path: Path) -> int | None:
        """Bytes in the file, or None if there is none."""
        with (
            explained(path, FileNotFoundError, NotADirectoryError, verb="read"),
            suppress(FileNotFoundError, NotADirectoryError),
            self._open(path, Access.FILE_READ_ATTRIBUTES, ANY) as file,
        ):
            return int(file.end_of_file)
        return None

    @on_the_share
    def names(self, folder: Path) -> list[str]:
        """Names of the files in ``folder``, sorted."""
        return sorted(name for name, size in self._listed(folder) if _is_ours(name, size))

    def has_files(self, folder: Path) -> bool:
        """Whether there are any in ``folder``."""
        return bool(self.names(folder))

    @on_the_share
    def sizes(self, folder: Path) -> dict[str, int]:
        """Names of the files in ``folder``, sorted, each with its size."""
        return {name: size for name, size in sorted(self._listed(folder)) if _is_ours(name, size)}

    def sizes_beyond(self, folder: Path, known: Set[str]) -> dict[str, int]:
        """The same for files whose names are not in ``known``."""
        return {name: size for name, size in self.sizes(folder).items() if name not in known}

    @on_the_share
    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in ``folder``, sorted."""
        return sorted(name for name, size in self._listed(folder) if size is None and name not in (".", ".."))

    @on_the_share
    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Write a temporary file in the same folder, flush, and put it in the file's place."""
        temporary = path.with_name(f"~{path.name}.{self.tag}.tmp")

        def attempt() -> None:
            with self._open(temporary, Access.FILE_WRITE_DATA, FRIENDLY, Disposition.FILE_OVERWRITE_IF) as file:
                self._put(file, 0, data)
                if durable:
                    self._asked(file.flush)

        with explained(path):
            try:
                try:
                    attempt()
                except FileNotFoundError:
                    self._make(path.parent)
                    attempt()
                self._patiently(lambda: self._rename(temporary, path))
            except BaseException:
                with suppress(OSError):
                    self._delete(temporary)
                raise

    @on_the_share
    def append(self, path: Path, data: bytes) -> None:
        """Open, write at the end, flush, close."""

        def attempt() -> None:
            access = Access.FILE_WRITE_DATA | Access.FILE_APPEND_DATA
            with self._open(path, access, FRIENDLY, Disposition.FILE_OPEN_IF) as file:
                self._put(file, file.end_of_file, data)
                self._asked(file.flush)

        with explained(path):
            try:
                self._patiently(attempt)
            except FileNotFoundError:
                self._make(path.parent)
                self._patiently(attempt)

    @on_the_share
    def remove(self, path: Path) -> None:
        """Delete the file; an absent one is no error."""
        with explained(path), suppress(FileNotFoundError):
            self._patiently(lambda: self._delete(path))

    @on_the_share
    def move(self, path: Path, target: Path) -> None:
        """Rename within the share, replacing ``target``."""
        with explained(target, FileNotFoundError):
            self._make(target.parent)
            self._patiently(lambda: self._rename(path, target))

    def remove_orphans(self, folder: Path, older_than_s: float) -> list[str]:
        """Leaves them: no test asks a share."""
        return []

    @on_the_share
    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Iterator[bool]:
        """Hold the lock file open, with nobody else allowed to open it, if it can be had in time."""
        end = time.monotonic() + timeout_s
        release = self.hold(path)
        while release is None and time.monotonic() < end:
            self.sleep(LOCK_POLL_S)
            release = self.hold(path)
        try:
            yield release is not None
        finally:
            if release is not None:
                release()

    @on_the_share
    def hold(self, path: Path) -> Callable[[], None] | None:
        """Hold the lock file open for as long as this process lives, or return None if another does."""
        with explained(path):
            try:
                file = self._exclusively(path)
            except FileNotFoundError:
                self._make(path.parent)
                file = self._exclusively(path)
        if file is None:
            return None

        def release() -> None:
            # A server that is gone has let go already.
            with suppress(OSError), plain(path):
                self._asked(file.close)

        return release

    @on_the_share
    def free_bytes(self, folder: Path) -> int:
        """Bytes that can still be written on the share."""
        message = SMB2QueryInfoRequest()
        about = FileFsFullSizeInformation()
        message["info_type"], message["file_info_class"] = about.INFO_TYPE, about.INFO_CLASS
        message["output_buffer_length"] = len(about)
        with self._open(self.mount, Access.FILE_READ_ATTRIBUTES, ANY, options=Options.FILE_DIRECTORY_FILE) as top:
            message["file_id"] = top.file_id
            answer = SMB2QueryInfoResponse()
            answer.unpack(self._tell(top, message)["data"].get_value())
        about = answer.parse_buffer(FileFsFullSizeInformation)
        units = ("caller_available_units", "sectors_per_unit", "bytes_per_sector")
        return math.prod(about[unit].get_value() for unit in units)

    def _listed(self, folder: Path) -> list[tuple[str, int | None]]:
        """Every name in the folder, with the size of a file and None for a folder."""
        listed: list[tuple[str, int | None]] = []
        how = (Access.FILE_READ_DATA, ANY, Disposition.FILE_OPEN, Options.FILE_DIRECTORY_FILE)
        with (
            explained(folder, FileNotFoundError, NotADirectoryError, verb="read"),
            suppress(FileNotFoundError, NotADirectoryError),
            self._open(folder, *how) as opened,
            suppress(NoMoreFiles),
        ):
            while True:
                message, _ = opened.query_directory("*", FileInformationClass.FILE_DIRECTORY_INFORMATION, 0, send=False)
                answer = SMB2QueryDirectoryResponse()
                answer.unpack(self._tell(opened, message)["data"].get_value())
                listed += _entries(answer["buffer"].get_value())
        return listed

    def _exclusively(self, path: Path) -> Open | None:
        file = self._opening(path)
        try:
            with plain(path):
                access = Access.FILE_READ_DATA | Access.FILE_WRITE_DATA
                self._create(file, access, 0, Disposition.FILE_OPEN_IF, Options.FILE_NON_DIRECTORY_FILE)
        except PermissionError as error:
            if getattr(error, "winerror", None) == IN_USE:
                return None
            raise
        return file

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it that are missing; nothing is above the share."""
        how = (Access.FILE_READ_ATTRIBUTES, ANY, Disposition.FILE_OPEN_IF, Options.FILE_DIRECTORY_FILE)
        try:
            with self._open(folder, *how):
                return
        except FileNotFoundError:
            if folder == self.mount:
                raise
        self._make(folder.parent)
        with self._open(folder, *how):
            pass

    def _delete(self, path: Path) -> None:
        options = Options.FILE_NON_DIRECTORY_FILE | Options.FILE_DELETE_ON_CLOSE
        with self._open(path, Access.DELETE, ANY, options=options):
            pass

    def _rename(self, path: Path, target: Path) -> None:
        new = FileRenameInformation()
        new["replace_if_exists"], new["file_name"] = True, self._name(target)
        with self._open(path, Access.DELETE, ANY) as file:
            message = SMB2SetInfoRequest()
            message["info_type"], message["file_info_class"] = new.INFO_TYPE, new.INFO_CLASS
            message["file_id"], message["buffer"] = file.file_id, new
            self._tell(file, message)

    def _put(self, file: Open, at: int, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            self._asked(file.write, data[start : start + PIECE_BYTES], at + start)

    @contextmanager
    def _open(
        self,
        path: Path,
        access: int,
        share: int,
        disposition: int = Disposition.FILE_OPEN,
        options: int = Options.FILE_NON_DIRECTORY_FILE,
    ) -> Iterator[Open]:
        """The file or folder, open; what goes wrong with it is an OSError."""
        with plain(path):
            file = self._opening(path)
            self._create(file, access, share, disposition, options)
            try:
                yield file
            finally:
                self._asked(file.close)

    def _create(self, file: Open, *how: int) -> None:
        access, *rest = how
        self._asked(file.create, ImpersonationLevel.Impersonation, access, FileAttributes.FILE_ATTRIBUTE_NORMAL, *rest)

    def _asked(self, request: Callable[..., T], *arguments: Any) -> T:
        self.requests += 1
        return request(*arguments)

    def _tell(self, file: Open, message: Any) -> Any:
        """Send a message about an open file for which the library has no method, and wait for the answer."""
        session = file.tree_connect.session
        sent = self._asked(file.connection.send, message, session.session_id, file.tree_connect.tree_connect_id)
        return file.connection.receive(sent)

    def _name(self, path: Path) -> str:
        return "\\".join(path.relative_to(self.mount).parts)

    def _opening(self, path: Path) -> Open:
        with self._connecting:
            if self._tree is None or not self._tree.session.connection.transport.connected:
                self._tree = self._connected()
            return Open(self._tree, self._name(path))

    def _connected(self) -> TreeConnect:
        connection = Connection(uuid.uuid4(), self.share.host, self.share.port)
        try:
            connection.connect()
        except ValueError as error:  # the library's word for a server that does not answer
            raise ConnectionRefusedError(errno.ECONNREFUSED, str(error)) from error
        session = Session(connection, self.share.user, self.share.password, require_encryption=False, auth_protocol="ntlm")
        session.connect()
        tree = TreeConnect(session, rf"\\{self.share.host}\{self.share.name}")
        tree.connect()
        return tree

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Repeat while somebody else holds the file, as `DiskFiles` does on Windows."""

        def sleep(seconds: float) -> None:
            self.calls["retry"] += 1
            self.sleep(seconds)

        return patiently(attempt, sleep)


def _is_ours(name: str, size: int | None) -> bool:
    return size is not None and not name.startswith(".") and not name.endswith(".tmp")


def _entries(data: bytes) -> Iterator[tuple[str, int | None]]:
    """What a FILE_DIRECTORY_INFORMATION tells of each file; the library takes 70 times as long."""
    at, following = 0, 1
    while following:
        following, size, attributes, length = struct.unpack_from("<I36xQ8xII", data, at)
        name = data[at + 64 : at + 64 + length].decode("utf-16-le")
        yield name, None if attributes & FileAttributes.FILE_ATTRIBUTE_DIRECTORY else size
        at += following
