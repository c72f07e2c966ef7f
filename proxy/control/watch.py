"""Files that may change while the process runs, looked at once a second.

Looking is a `stat` of what the path leads to, so that a file that is replaced (`mv`) and the symlinks of a
Kubernetes ConfigMap or Secret are seen like one that was written to. inotify would have to follow each of
these links, does not work on every file system, and saves nothing that could be measured.

What has changed by its times is read; only another content counts.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256

from proxy import regular_file

# How often the files are looked at.
LOOK_S = 1.0
# More than any file may have that the settings name; what is larger counts as one that cannot be read.
_MOST_BYTES = 16 * 1024 * 1024

# Device, inode, times and size of a file; None if nothing is known of it.
Seen = tuple[int, ...] | None


def seen(path: str) -> Seen:
    """What tells a file from the one that was there before."""
    try:
        status = os.stat(path)  # noqa: PTH116 -- the path may be one that Path() would change
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


class Watch:
    """Some files.

    Args:
        paths: of the files, which are read at once; a relative one begins at the working directory.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._seen: dict[str, Seen] = {}
        self._digests: dict[str, bytes | None] = {}
        self._changed_lately = True
        self._look_at = 0.0
        self.follow(paths)

    def follow(self, paths: Iterable[str]) -> None:
        """Watches these files from now on, and no others; reads those that are new."""
        wanted = dict.fromkeys(paths)
        self._seen = {path: self._seen[path] if path in self._seen else seen(path) for path in wanted}
        self._digests = {
            path: self._digests[path] if path in self._digests else _digest(path) for path in wanted
        }

    def has_changed(self, now: float) -> bool:
        """Whether it is time to `read` the files; looks at them at most once in `LOOK_S`.

        Two changes within one tick of the file system's clock look like one, so what has changed is read once
        more at the next look; and what cannot be read is tried again each time.

        Args:
            now: monotonic seconds.
        """
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_S
        found = {path: seen(path) for path in self._seen}
        changed = found != self._seen
        is_to_be_read = changed or self._changed_lately or None in self._digests.values()
        is_to_be_read &= bool(found)
        self._seen, self._changed_lately = found, changed
        return is_to_be_read

    def read(self) -> bool:
        """Reads the files, in whatever thread; whether any says something else than before."""
        digests = {path: _digest(path) for path in self._digests}
        before, self._digests = self._digests, digests
        return digests != before


def _digest(path: str) -> bytes | None:
    """Tells one content from another; None if there is none to be had."""
    with suppress(OSError, ValueError):
        content, _ = regular_file.read(path, _MOST_BYTES)
        return sha256(content).digest()
    return None
