"""Scalars of the configuration as values of a setting's type, and such values as text again.

`SHAPES` has a row for each type that a single value may have, beside enums of words. A new type is a new row:
how a message names it, how it is read if msgspec does not know it, and how a bound of it is written.

Lists and sections are the business of `config.py`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec

from proxy.control.yaml_source import Scalar, plain, value_of
from proxy.core.policy import Endpoint
from proxy.core.quantities import Bytes, Range, Seconds

# A year. Far beyond any use, and well within what event loops take.
MAX_SECONDS = 8760 * 3600
# What a message shows of a value: it may be a secret in the wrong place.
MAX_SHOWN = 60

_DURATION = re.compile(r"(?P<number>[0-9]{1,30}(?:\.[0-9]{1,30})?)(?P<unit>ms|s|m|h)")
_DURATION_UNITS = {"h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
_SIZE = re.compile(r"(?P<number>[0-9]{1,30})(?P<unit>KiB|MiB|GiB|)")
_SIZE_UNITS = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "": 1}
_MAX_SIZE = 2**63 - 1
# Port 0 takes any free one. IPv6 without a zone.
_ENDPOINT = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>localhost|[0-9.]+)):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65535
_MANY_DIGITS = re.compile(r"-?[1-9][0-9]{18,}")


class Unfit(ValueError):
    """A value that a setting cannot have; the text says what was expected, and what came."""


class _Misread(ValueError):
    """A value whose form is wrong; the text is advice to add to the message, or empty."""


def parse_seconds(value: Scalar) -> Seconds:
    """Reads `250ms`, `1.5s`, `5m`, `1h`, or 0.

    Raises:
        ValueError: for anything else, or more than `MAX_SECONDS`; the text is advice, or empty.
    """
    if _is_number(value):
        if value != 0:
            raise _Misread("add a unit, such as 30s")
        return Seconds(0)  # nothing is nothing in every unit
    parts = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise _Misread
    # Exact until the last step, so that 1100ms is the same number as 1.1s.
    seconds = Decimal(parts["number"]) * _DURATION_UNITS[parts["unit"]]
    if seconds > MAX_SECONDS:
        raise _Misread(f"the most is {duration_text(MAX_SECONDS)}")
    return Seconds(seconds)


def duration_text(seconds: float) -> str:
    """Writes a duration in the largest unit that needs no fraction, as `parse_seconds` reads it."""
    exact = Decimal(repr(float(seconds)))
    if exact == 0:
        return "0s"
    for unit, unit_s in _DURATION_UNITS.items():
        if exact >= unit_s and exact % unit_s == 0:
            return f"{exact / unit_s:.0f}{unit}"
    return f"{exact:f}s"


def parse_size(value: Scalar) -> Bytes:
    """Reads `512`, `64KiB`, `256MiB` or `1GiB`.

    Raises:
        ValueError: for anything else, or what does not fit into 64 bits; the text is advice, or empty.
    """
    parts = _SIZE.fullmatch(str(value)) if isinstance(value, str) or _is_number(value) else None
    if parts is None:
        raise _Misread
    size = int(parts["number"]) * _SIZE_UNITS[parts["unit"]]
    if size > _MAX_SIZE:
        raise _Misread("that is too large")
    return Bytes(size)


def size_text(size: float) -> str:
    """Writes a size in the largest unit that divides it, as `parse_size` reads it."""
    exact = int(size)
    for unit, unit_bytes in _SIZE_UNITS.items():
        if exact >= unit_bytes and exact % unit_bytes == 0:
            return f"{exact // unit_bytes}{unit}"
    return "0"


def parse_endpoint(value: Scalar) -> Endpoint:
    """Reads `127.0.0.1:3128`, `[::1]:3128` or `localhost:3128`, with a port from 0 to 65535.

    Raises:
        ValueError: for anything else; the text is advice, or empty.
    """
    parts = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise _Misread
    host: str = parts["ipv6"] or parts["host"]
    if host != "localhost":
        try:
            host = str(IPv6Address(host) if parts["ipv6"] else IPv4Address(host))
        except ValueError as error:
            raise _Misread from error
    port = int(parts["port"])
    if port > _MAX_PORT:
        raise _Misread(f"the highest port is {_MAX_PORT}")
    return Endpoint(host, port)


def parse_text(value: Scalar) -> str:
    """Takes any text of one line.

    Raises:
        ValueError: if it could break a log line or a header, or is nothing.
    """
    if not isinstance(value, str) or not value.isprintable():
        raise _Misread
    return value


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number_text(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


@dataclass(frozen=True, slots=True)
class Shape:
    """How values of one type look in the file.

    Attributes:
        noun: what a message says was expected.
        examples: what it adds where the form is wrong.
        parse: reads a value, raising ValueError with advice; None leaves that to msgspec.
        write: writes a bound.
    """

    noun: str
    examples: str = ""
    parse: Callable[[Scalar], object] | None = None
    write: Callable[[float], str] = _number_text


SHAPES: dict[type, Shape] = {
    bool: Shape("true or false"),
    int: Shape("a whole number"),
    float: Shape("a number"),
    str: Shape("one line of text", parse=parse_text),
    Seconds: Shape("a duration", " such as 250ms, 30s, 5m or 1h", parse_seconds, duration_text),
    Bytes: Shape("a size", " such as 512, 64KiB, 256MiB or 1GiB", parse_size, size_text),
    Endpoint: Shape(
        "an address and port", " such as 127.0.0.1:3128, [::1]:3128 or localhost:3128", parse_endpoint
    ),
}


def convert(text: str, value: Scalar, leaf: type, bounds: Range | None) -> object:
    """Makes a value of the setting's type.

    Args:
        text: the scalar as it is written.
        value: what it means by itself; see `yaml_source.value_of`.
        leaf: a type of `SHAPES`, or an enum whose values are words.
        bounds: what the value must lie within.

    Raises:
        Unfit: if the value is not of that type or not within the bounds.
    """
    shape = shape_of(leaf)
    # Where text or a word is expected, 5, 1.2 and true are that as well.
    taken = text if value is not None and (leaf is str or issubclass(leaf, Enum)) else value
    try:
        converted: Any = shape.parse(taken) if shape.parse else msgspec.convert(taken, leaf)
    except (_Misread, msgspec.ValidationError, UnicodeEncodeError) as error:
        # UnicodeEncodeError: half a surrogate pair ("\uD800", or a variable in Latin-1) is not for msgspec.
        advice = str(error) if isinstance(error, _Misread) else _number_advice(value, leaf)
        expected = f"{shape.noun}{shape.examples}" if shape.examples else _within(shape, bounds)
        raise Unfit(f"expected {expected}, got {shown(text, value)}{advice and f'; {advice}'}") from error
    if bounds is not None and not _is_within(converted, bounds):
        raise Unfit(f"expected {_within(shape, bounds)}, got {shown(text, value)}")
    return converted


def shape_of(leaf: type) -> Shape:
    """The shape of a type.

    Raises:
        TypeError: for a type that no row of `SHAPES` is for, a fault of the program.
    """
    if issubclass(leaf, Enum):
        *first, last = [str(member.value) for member in leaf]
        return Shape(f"{', '.join(first)} or {last}" if first else last)
    if leaf not in SHAPES:
        raise TypeError(f"no shape for settings of type {leaf.__name__}")
    return SHAPES[leaf]


def shortened(text: str) -> str:
    """The beginning of a text, as much as a message may show."""
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def shown(text: str, value: Scalar) -> str:
    """A scalar as a message shows it: text in quotes, escaped and shortened."""
    if value is None:
        return text or "nothing"
    return repr(shortened(text)) if isinstance(value, str) else text


def _number_advice(value: Scalar, leaf: type) -> str:
    if leaf not in {int, float} or not isinstance(value, str):
        return ""
    if _is_number(value_of(plain(value))):
        return "write it without quotes"
    return "that has too many digits" if _MANY_DIGITS.fullmatch(value) else ""


def _is_within(number: float, bounds: Range) -> bool:
    return (bounds.least is None or number >= bounds.least) and (bounds.most is None or number <= bounds.most)


def _within(shape: Shape, bounds: Range | None) -> str:
    least, most = (bounds.least, bounds.most) if bounds else (None, None)
    if least is not None and most is not None:
        if least == most:
            return shape.write(least)
        return f"{shape.noun} from {shape.write(least)} to {shape.write(most)}"
    if least is not None:
        return f"{shape.noun} >= {shape.write(least)}"
    if most is not None:
        return f"{shape.noun} <= {shape.write(most)}"
    return shape.noun
