"""What an SMB server says went wrong, in the operating system's own errors and in those for people."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smbprotocol.exceptions import NoMoreFiles, SMBException, SMBResponseException
from smbprotocol.header import NtStatus

from fedspec.errors import FolderError

MEDIA_WRITE_PROTECTED, FILE_LOCK_CONFLICT = 0xC00000A2, 0xC0000054
ERRNO = {
    NtStatus.STATUS_OBJECT_NAME_NOT_FOUND: errno.ENOENT,
    NtStatus.STATUS_OBJECT_PATH_NOT_FOUND: errno.ENOENT,
    NtStatus.STATUS_NO_SUCH_FILE: errno.ENOENT,
    NtStatus.STATUS_NOT_A_DIRECTORY: errno.ENOTDIR,
    NtStatus.STATUS_FILE_IS_A_DIRECTORY: errno.EISDIR,
    NtStatus.STATUS_ACCESS_DENIED: errno.EACCES,
    NtStatus.STATUS_DELETE_PENDING: errno.EACCES,
    NtStatus.STATUS_SHARING_VIOLATION: errno.EACCES,
    FILE_LOCK_CONFLICT: errno.EACCES,
    MEDIA_WRITE_PROTECTED: errno.EROFS,
    NtStatus.STATUS_DISK_FULL: errno.ENOSPC,
}
IN_USE = 32
WINERROR = {
    NtStatus.STATUS_ACCESS_DENIED: 5,
    NtStatus.STATUS_DELETE_PENDING: 5,
    NtStatus.STATUS_SHARING_VIOLATION: IN_USE,
    FILE_LOCK_CONFLICT: 33,
}


@contextmanager
def plain(path: Path) -> Iterator[None]:
    """Say what the server says in the operating system's own errors."""
    try:
        yield
    except NoMoreFiles:
        raise
    except SMBResponseException as error:
        said = OSError(ERRNO.get(error.status, errno.EIO), error.message, str(path))
        if error.status in WINERROR:
            said.winerror = WINERROR[error.status]  # type: ignore[attr-defined]
        raise said from error
    except SMBException as error:
        raise OSError(errno.ECONNRESET, str(error), str(path)) from error


@contextmanager
def explained(path: Path, *expected: type[OSError], verb: str = "write") -> Iterator[None]:
    """Turn what went wrong into what a person can do about it, but for what the caller expects."""
    try:
        yield
    except expected:
        raise
    except OSError as error:
        raise FolderError(f"Cannot {verb} {path}: {error.strerror}.", "Check that the shared folder is connected.") from error
