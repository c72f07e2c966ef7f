"""What a circuit is for: a whole host, or one endpoint of it (the setting `circuit.key`).

An endpoint is told by its path, by the first segments of it, or by a field that the client adds. Its name is
`host:port#hash`: paths of webhooks are credentials, and the name stands in labels and logs. The hash is the
first 64 bits of BLAKE2b over the bytes that tell it, so that anyone can compute it:
`printf %s /hooks/42 | b2sum --length 64`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Self

_FORM = re.compile(r"(?P<by>host|path|header)(?::(?P<detail>.+))?")
# RFC 9110 section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SEGMENTS = re.compile(r"[1-9][0-9]?")
_HASH_BYTES = 8


class Scope(Enum):
    """Which of the two circuits of a call; the `scope` label of the metrics."""

    HOST = "host"
    ENDPOINT = "endpoint"


class By(Enum):
    """What tells the endpoints of a host apart."""

    HOST = "host"
    PATH = "path"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class CircuitKey:
    """The parsed form of `host`, `path`, `path:N` or `header:NAME`.

    Attributes:
        segments: how many segments of the path count, 1-99; 0 is all of them.
        header: the name of the field, in lower case, that wire takes out of the request.
    """

    by: By
    segments: int = 0
    header: str = ""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Reads the setting.

        Raises:
            ValueError: for anything else; the text says what was expected.
        """
        parts = _FORM.fullmatch(value) if isinstance(value, str) else None
        if parts is not None:
            by, detail = By(parts["by"]), parts["detail"]
            if detail is None and by is not By.HEADER:
                return cls(by)
            if by is By.PATH and _SEGMENTS.fullmatch(detail):
                return cls(by, segments=int(detail))
            if by is By.HEADER and detail is not None and _TOKEN.fullmatch(detail):
                return cls(by, header=detail.lower())
        raise ValueError(f"expected host, path, path:N (N from 1 to 99) or header:NAME, got {value!r:.60}")

    def __str__(self) -> str:
        detail = self.segments or self.header
        return f"{self.by.value}:{detail}" if detail else self.by.value

    def endpoint(self, host: str, origin_form: str, fields: Iterable[tuple[bytes, bytes]]) -> str | None:
        """The name of the endpoint that a request is for; None if only its host's circuit is asked.

        Args:
            host: the name of the host's circuit, `host:port`.
            origin_form: path and query as received; the query never counts.
            fields: of the request. The field that tells the endpoint must stand there once, and not empty.
        """
        if self.by is By.HOST:
            return None
        if self.by is By.PATH:
            path = origin_form.partition("?")[0]
            if self.segments:
                path = "/".join(path.split("/")[: self.segments + 1])
            told_by = path.encode("ascii", "surrogateescape")
        else:
            name = self.header.encode("ascii")
            values = [value for field, value in fields if field.lower() == name]
            if len(values) != 1 or not values[0]:
                return None
            told_by = values[0]
        return endpoint_name(host, told_by)


def endpoint_name(host: str, told_by: bytes) -> str:
    """The name of an endpoint.

    Args:
        host: the name of the host's circuit, `host:port`.
        told_by: what tells the endpoint from the others of its host, such as its path.
    """
    return f"{host}#{blake2b(told_by, digest_size=_HASH_BYTES).hexdigest()}"


BY_HOST = CircuitKey(By.HOST)
