"""The token of the admin port: read from `admin.token_file`, or made up and left where the command line is.

A file that somebody else has made is read again when the token is asked for and a second has passed, so that
it can be replaced at any time; while it cannot be read, nobody is let in. A token of our own lasts as long as
the process, in a file that only our user can read.
"""

import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from proxy import regular_file
from proxy.control.config import ConfigError
from proxy.control.log import logger
from proxy.control.sections import Fault
from proxy.control.token_places import places

# How often a file that others write is read at most.
READ_AGAIN_S = 1.0
# RFC 4086: nobody guesses 256 bits.
_RANDOM_BYTES = 32
_TOKEN = re.compile(rb"[!-~]{16,512}")
_MAX_FILE_BYTES = 4096


def read(path: str) -> bytes:
    """Reads a file with one token, white space around it aside.

    Raises:
        ConfigError: it cannot be read, or holds something else. Nothing of its content is told.
    """
    try:
        content, _ = regular_file.read(path, _MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError([Fault(path, None, "admin.token_file", f"cannot be read: {why}")]) from error
    token = content.strip()
    if not _TOKEN.fullmatch(token):
        expected = "expected one token, of 16 to 512 visible ASCII characters"
        raise ConfigError([Fault(path, None, "admin.token_file", expected)])
    return token


class TokenFile:
    """The token that a file holds now.

    Args:
        path: of the file; a relative one begins at the working directory.
        clock: monotonic seconds.
        token: what it has held a moment ago, as `read` tells it.
    """

    def __init__(self, path: str, clock: Callable[[], float], token: bytes) -> None:
        self._path = path
        self._clock = clock
        self._digest: bytes | None = sha256(token).digest()
        self._read_at = clock()

    def check(self, token: str) -> bool:
        """Whether it is the right one, in constant time."""
        now = self._clock()
        if now - self._read_at >= READ_AGAIN_S:
            self._read_at = now
            self._read_again()
        return _is_same(token, self._digest)

    def _read_again(self) -> None:
        was_readable = self._digest is not None
        try:
            self._digest = sha256(read(self._path)).digest()
        except ConfigError as error:
            self._digest = None
            if was_readable:
                logger().warning("admin token not readable", faults=[str(fault) for fault in error.faults])


class MadeToken:
    """A token of our own, once it is written."""

    def __init__(self) -> None:
        self._digest: bytes | None = None
        self._path: Path | None = None

    @property
    def is_written(self) -> bool:
        """Whether there is a place where it has been left."""
        return self._path is not None

    def check(self, token: str) -> bool:
        """Whether it is the right one, in constant time; none is until it is written."""
        return _is_same(token, self._digest)

    def write(self, admin_port: int, environ: Mapping[str, str]) -> None:
        """Makes the token, and leaves it in the first of `places` that can be written to; warns if none can.

        Args:
            admin_port: of this process, by which those who look tell several apart.
            environ: the environment.
        """
        token = secrets.token_urlsafe(_RANDOM_BYTES)
        faults: list[str] = []
        try:
            for place in places(admin_port, environ):
                try:
                    _write(place, token)
                except OSError as error:
                    faults.append(f"{place}: {error.strerror or error}")
                    continue
                self._digest = sha256(token.encode("ascii")).digest()
                self._path = place
                logger().info("admin token written", path=str(place))
                return
        except OSError as error:  # there is no temporary directory
            faults.append(error.strerror or str(error))
        logger().warning(
            "admin token not written: the API lets nobody in", faults=faults, hint="set admin.token_file"
        )

    def remove(self) -> None:
        """Takes the file away again, unless another process has put its own there."""
        if self._path is None:
            return
        with suppress(OSError):
            if _is_same(self._path.read_text(encoding="ascii", errors="replace").strip(), self._digest):
                self._path.unlink()


def _write(place: Path, token: str) -> None:
    """Puts a file in its place at once, so that nobody reads half of it.

    Raises:
        OSError: it cannot be written, or somebody else could change it.
    """
    folder = place.parent
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    # Others may have made a folder of this name in the temporary directory.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(None, "others can write to this folder, or it is theirs")
    new = folder / f"{place.name}.{secrets.token_hex(8)}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{token}\n")
        new.replace(place)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _is_same(token: str, digest: bytes | None) -> bool:
    """Compares in a time that tells neither where a token differs nor how long the right one is."""
    shown = sha256(token.encode("utf-8", "surrogateescape")).digest()
    return compare_digest(shown, digest or bytes(len(shown))) and digest is not None
