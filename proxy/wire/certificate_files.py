"""The files of certificates and keys, written so that neither a crash nor another process does harm.

What is written stands under its name wholly or not at all: it is written under another name, flushed, and
then linked (if there must be none yet) or renamed (if there may be one). What a crash has left under such
another name is removed by a later writing.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from proxy import regular_file

# A bundle of all public roots has 0.3 MB.
MAX_FILE_BYTES = 16 * 1024 * 1024
# What is this much older than what is being written is being written by nobody any more.
_ABANDONED_S = 60.0
# Names of files that nobody else would make.
_UNDER_WAY = ".breaker-proxy-{}.tmp"
_DIGITS = 16


class CertificateFault(Exception):
    """A certificate, a key or one of their directories cannot be used; ends the start.

    Args:
        path: of the file or directory.
        reason: what is wrong, in one line that repeats nothing of the content.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class File:
    """What was read.

    Args:
        content: of the file.
        mode: its permissions.
    """

    content: bytes
    mode: int


@contextmanager
def faults_of(path: str | Path, what: str) -> Iterator[None]:
    """Makes a CertificateFault of an error of the system.

    Args:
        path: which is told.
        what: that did not work, such as `cannot be read`.
    """
    try:
        yield
    # A ValueError is a NUL in the path, or our own refusal.
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise CertificateFault(path, f"{what}: {why}") from error


def read(path: Path) -> File:
    """Reads a regular file.

    Raises:
        CertificateFault: it cannot be read, is missing, is no regular file, or is too large.
    """
    with faults_of(path, "cannot be read"):
        content, status = regular_file.read(path, MAX_FILE_BYTES)
    return File(content, stat.S_IMODE(status.st_mode))


def read_if_there(path: Path) -> File | None:
    """As `read`, but None for a file that is missing."""
    try:
        return read(path)
    except CertificateFault as fault:
        if isinstance(fault.__cause__, FileNotFoundError):
            return None
        raise


def make_directory(path: Path, mode: int) -> None:
    """Makes a directory, and those that it lies in, unless it is there.

    Raises:
        CertificateFault: it cannot be made.
    """
    with faults_of(path, "cannot be made"):
        path.mkdir(mode, parents=True, exist_ok=True)


def create(path: Path, content: bytes, mode: int) -> bool:
    """Writes a file that must not be there yet.

    Returns:
        Whether it was written; False if there is one, maybe since a moment ago and by another process.

    Raises:
        CertificateFault: it cannot be written.
    """
    with faults_of(path, "cannot be written"), _written(path, content, mode) as written:
        try:
            path.hardlink_to(written)
        except FileExistsError:
            return False
        _flush(path.parent)
        return True


def replace(path: Path, content: bytes, mode: int) -> None:
    """Writes a file, whether it is there or not.

    Raises:
        CertificateFault: it cannot be written.
    """
    with faults_of(path, "cannot be written"), _written(path, content, mode) as written:
        written.replace(path)
        _flush(path.parent)


@contextmanager
def _written(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """The content under another name in the same directory, for as long as it is needed there."""
    written = path.with_name(_UNDER_WAY.format(secrets.token_hex(_DIGITS // 2)))
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            # What the umask says of others is not meant for these files.
            os.fchmod(descriptor, mode)
            # A name whose content is lost when the power is would be refused at the next start.
            os.fsync(descriptor)
            _remove_abandoned(path.parent, os.fstat(descriptor).st_mtime)
        yield written
    finally:
        with suppress(FileNotFoundError):
            written.unlink()


def _remove_abandoned(directory: Path, now: float) -> None:
    """Removes what crashed processes have left.

    Args:
        directory: in which to look.
        now: by the clock of its file system.
    """
    for path in directory.glob(_UNDER_WAY.format("[0-9a-f]" * _DIGITS)):
        # Another process may remove it first; and what cannot be removed does no harm.
        with suppress(OSError):
            if now - path.lstat().st_mtime > _ABANDONED_S:
                path.unlink()


def _flush(directory: Path) -> None:
    """Sees to it that what was linked before survives a loss of power if what is linked later does."""
    # Not every file system can; the file is written all the same.
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
