"""What the values of settings are measured in, and the ranges that they may have."""

from dataclasses import dataclass


class Seconds(float):
    """A duration in seconds, written `250ms`, `30s`, `5m` or `1h` in the file."""

    __slots__ = ()


class Bytes(int):
    """A size in bytes, written `512`, `64KiB` or `256MiB` in the file."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Range:
    """The values a setting may have, both ends included; None is no bound."""

    least: float | None = None
    most: float | None = None
