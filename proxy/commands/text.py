"""Texts of others, made fit for a terminal; and figures as people read them."""

from datetime import datetime
from typing import Any

# Far more than any text of the API has.
_LONGEST = 1000
# Each with the one below it.
_UNITS = (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1))
_FEW_S = 10


def clean(text: str) -> str:
    """The text without what a terminal would obey: control characters, and those that turn text around."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:_LONGEST]
    )


def cleaned(value: Any) -> Any:
    """A value from JSON with all its texts clean.

    Raises:
        RecursionError: it is nested too deep.
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(each) for each in value]
    if isinstance(value, dict):
        return {clean(name): cleaned(each) for name, each in value.items()}
    return value


def duration(seconds: float) -> str:
    """A duration in its two largest units: `0.4s`, `27s`, `10m`, `4m12s`, `2h05m`, `3d04h`."""
    if seconds < _FEW_S:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for name, unit_s, lesser, lesser_s in _UNITS:
        if whole >= unit_s:
            rest = whole % unit_s // lesser_s
            return f"{whole // unit_s}{name}{rest:02}{lesser}" if rest else f"{whole // unit_s}{name}"
    return f"{whole}s"


def latency(seconds: float) -> str:
    """How long an upstream takes: `12 ms` or `1.24 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def local(at: str, now: datetime) -> str:
    """A moment of the API on the clock of this machine: the time, or the day if it was another one.

    Args:
        at: ISO 8601; anything else stays as it is.
        now: with a time zone, in which the moment is told.
    """
    try:
        moment = datetime.fromisoformat(at).astimezone(now.tzinfo)
    except (ValueError, OverflowError):
        return at
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%d %b %H:%M}"


def words(state: str) -> str:
    """A state as people say it: `forced open`, `half-open`."""
    return "half-open" if state == "half_open" else state.replace("_", " ")


def why(reason: str | None, cause: str | None) -> str:
    """Why a circuit changed: `consecutive failures: refused`."""
    words = (reason or "").replace("_", " ")
    kind = (cause or "").removeprefix("failure(").removesuffix(")").replace("_", " ")
    # Probes that succeed lead to what the reason says already.
    return f"{words}: {kind}" if kind and kind not in {"success", "alive"} else words
