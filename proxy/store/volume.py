"""What the disk under the file outlives: told where that is less than a 202 promises.

Read from `/proc/self/mountinfo` (proc_pid_mountinfo(5)), which has every mount that this process sees.
"""

import re
from pathlib import Path
from typing import NamedTuple

_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_OF_A_CONTAINER = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
_OF_ANOTHER_MACHINE = frozenset(
    {"9p", "afs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "lustre", "nfs", "nfs4", "ocfs2", "smb3"}
)
# The kubelet has each volume of this kind in a directory of this name.
_EMPTY_DIR = "/kubernetes.io~empty-dir/"


class _Mount(NamedTuple):
    """Where a file system is mounted, which directory of it, and its type."""

    point: str
    root: str
    kind: str


def doubt(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """What to know of the disk that a file is on, or would be.

    Args:
        path: of the file; neither it nor its directories need to be there.
        mounts: as the kernel tells them.

    Returns:
        Why what is stored there may be gone sooner than expected, for people; None if nothing says so, or
        the system tells nothing of its mounts.
    """
    try:
        told = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    mount = _mount_of(str(path.resolve()), told)
    return None if mount is None else _doubt_of(mount)


def _doubt_of(mount: _Mount) -> str | None:
    kind = mount.kind
    if _EMPTY_DIR in f"{mount.root}/":
        return "it is in an emptyDir: what is kept there is gone with the Pod"
    if kind in _IN_MEMORY:
        return f"it is in memory ({kind}): what is kept there is gone with the machine or the container"
    if kind in _OF_A_CONTAINER:
        return f"it is in the layer of a container ({kind}): what is kept there is gone with it"
    if kind in _OF_ANOTHER_MACHINE or kind.startswith("fuse."):
        return (
            f"it is on a file system of others ({kind}): whether what is synced is durable, and what is"
            " locked belongs to one process, is theirs to see to"
        )
    return None


def _mount_of(path: str, told: str) -> _Mount | None:
    found: _Mount | None = None
    for line in told.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.partition(" ")[0]
        if len(fields) < 5 or not kind:  # noqa: PLR2004 -- the number of the mount point's field
            continue
        mount = _Mount(_unescaped(fields[4]), _unescaped(fields[3]), kind)
        is_above = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        # Of two at the same place the later one hides the other.
        if is_above and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def _unescaped(field: str) -> str:
    """Spaces, tabs, line breaks and backslashes come as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), field)
