"""What runs between the dispatcher and the endpoints."""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from isolation.records import Opening


@dataclass(frozen=True)
class Running:
    """A way while it is open.

    Attributes:
        environ: the variables that lead the dispatcher along it. All that matter are there, empty ones
            too, so that nothing of the caller's own environment gets in.
        program: what it leads through, with its version; None: nothing.
        openings: tells which circuits have opened so far, and in the end all; there are none but with ours.
    """

    environ: Mapping[str, str]
    program: str | None = None
    openings: Callable[[], list[Opening]] = list


def environ(proxy: str = "", ca: Path | None = None) -> dict[str, str]:
    """The variables of a dispatcher.

    Args:
        proxy: its URL; none: it calls directly.
        ca: a file of the only certificates that it trusts; None: it meets none.
    """
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    values = dict.fromkeys(names, "") | {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
    # Of the pair, clients prefer now the one and now the other.
    both = values | {name.lower(): value for name, value in values.items()}
    return both | {"REQUESTS_CA_BUNDLE": "" if ca is None else str(ca), "CURL_CA_BUNDLE": ""}


def version(*command: str | Path) -> str:
    """What a program says of itself when asked for its version."""
    asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)  # noqa: S603 -- ours
    return asked.stdout
