"""The file with the tokens of clients (`listen.credentials_file`): read at start, and again when it changes.

A file that is not right ends the start like any other fault of the configuration. Later it changes nothing:
what was read before holds on, and one line of the log says why.

What is looked at is what the path leads to, so that a file that is replaced (`mv`) and the symlinks of a
Kubernetes Secret are seen like one that was written to.
"""

from collections.abc import Sequence

from proxy import regular_file
from proxy.control import log
from proxy.control.config import ConfigError
from proxy.control.sections import Fault
from proxy.control.watch import Seen, seen
from proxy.core.credentials import NOBODYS, Credentials, Malformed

# Some ten thousand tokens; a Kubernetes Secret holds as much.
MAX_FILE_BYTES = 1024 * 1024
# How often the file is looked at.
LOOK_S = 1.0

_KEY = "listen.credentials_file"


def read(path: str) -> Credentials:
    """Reads the file; a relative path begins at the working directory.

    Raises:
        ConfigError: it cannot be read, is malformed, or has no token. Nothing of its content is told.
    """
    try:
        content, _ = regular_file.read(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError([Fault(path, None, _KEY, f"cannot be read: {why}")]) from error
    try:
        return Credentials.parse(content)
    except Malformed as error:
        faults = [Fault(path, line, "" if line else _KEY, message) for line, message in error.faults]
        raise ConfigError(faults) from error


class CredentialsFile:
    """The tokens that are valid now.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        # Before it is read for the first time: what is written in between is a change.
        self._seen: Seen = seen(path)
        self._credentials = NOBODYS
        self._told: list[Fault] = []
        self._changed_lately = True
        self._look_at = 0.0

    def check(self, values: Sequence[bytes]) -> str | None:
        """Whose token it is, or None; see `Credentials.check`."""
        return self._credentials.check(values)

    def look(self, now: float) -> None:
        """Reads the file again if it has changed; looks at it at most once in `LOOK_S`.

        Two changes within one tick of the file system's clock look like one, so a file that has changed is
        read once more at the next look.

        Args:
            now: monotonic seconds.
        """
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        found = seen(self._path)
        changed = found != self._seen
        if changed or self._changed_lately:
            self._seen = found
            self._changed_lately = changed
            self._read_again()

    def _read_again(self) -> None:
        try:
            credentials = read(self._path)
        except ConfigError as error:
            # For want of a descriptor, or of permission, which changes nothing that is looked at: try again.
            self._changed_lately |= isinstance(error.__cause__, OSError)
            if error.faults != self._told:
                self._told = error.faults
                log.credentials_kept(error.faults)
            return
        self._go_on(credentials)

    def configure(self, credentials: Credentials) -> None:
        """Goes on with what the file said a moment ago; what it says since then is found at the next look."""
        self._changed_lately = True
        self._go_on(credentials)

    def _go_on(self, credentials: Credentials) -> None:
        if self._told or credentials != self._credentials:
            self._told = []
            self._credentials = credentials
            self._tell()

    def _tell(self) -> None:
        digests = self._credentials.digests
        log.credentials_read(self._path, names=len(digests), tokens=self._credentials.tokens)
