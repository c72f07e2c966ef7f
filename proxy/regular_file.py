"""Reading a small file that a user names, and that may turn out to be anything."""

import os
import stat


def read(path: str | os.PathLike[str], most_bytes: int, flags: int = 0) -> tuple[bytes, os.stat_result]:
    """Reads a regular file; it never waits for what may not come.

    Args:
        path: a relative one begins at the working directory.
        most_bytes: of content.
        flags: of open(2), beside those for reading.

    Returns:
        The content, and whose and of what mode the file is.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or larger; or the path cannot be one.
    """
    # Not even opened: whoever waits to write to it would write to nobody, and another reader get nothing.
    if stat.S_ISFIFO(os.stat(path).st_mode):  # noqa: PTH116 -- as the opener below, it takes what open(2) takes
        raise ValueError("it is not a regular file")
    # Without O_NONBLOCK it would hang at one that has come here since then.
    flags |= os.O_NONBLOCK
    with open(path, "rb", opener=lambda name, usual: os.open(name, usual | flags)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        size = f"{most_bytes >> 20} MiB" if most_bytes >> 20 else f"{most_bytes >> 10} KiB"
        raise ValueError(f"it is larger than {size}")
    return content, status
