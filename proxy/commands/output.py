"""How a command says what it has found: as a table for people at a terminal, as JSON for everything else."""

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_NEEDS_EXTRA = "tables need an extra: pip install 'breaker-proxy[terminal]' (--json does without)"


def terminal(*, is_json: bool) -> "Console | None":
    """Where tables are drawn; None if JSON is to be written."""
    if is_json or not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415 -- an extra, imported only where it is used
    except ImportError:
        remark(_NEEDS_EXTRA)
        return None
    # What is shown comes from others: nothing in it is markup, a link or an emoji.
    return Console(markup=False, highlight=False, emoji=False)


def write_document(value: Any) -> None:
    """Writes a value as a document that people can read as well. All that is not ASCII is escaped."""
    sys.stdout.write(f"{json.dumps(value, indent=2)}\n")
    sys.stdout.flush()


def write_line(value: Any) -> None:
    """Writes a value as one line, at once."""
    sys.stdout.write(f"{json.dumps(value, separators=(',', ':'))}\n")
    sys.stdout.flush()


def remark(text: str) -> None:
    """Tells something beside what was asked for."""
    sys.stderr.write(f"breaker-proxy: {text}\n")
    sys.stderr.flush()


def write_text(text: str) -> None:
    """Writes a line for people."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
