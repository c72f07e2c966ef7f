"""Where the process leaves a token that it has made, and the command line finds it."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

_FOLDER = "breaker-proxy"


def places(admin_port: int, environ: Mapping[str, str]) -> Iterator[Path]:
    """Where a token of our own may be: in `$XDG_RUNTIME_DIR`, or in the temporary directory.

    Raises:
        OSError: there is no temporary directory that can be written to.
    """
    name = f"admin-{admin_port}.token"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    # XDG Base Directory Specification: relative paths are to be ignored.
    if os.path.isabs(runtime):  # noqa: PTH117 -- as PTH116 in credentials_file.py
        yield Path(runtime, _FOLDER, name)
    yield Path(tempfile.gettempdir(), _FOLDER, name)
