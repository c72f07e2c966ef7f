"""What happens to a request that its circuit refuses, as the settings write it; see `redirect.py`."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Self

from proxy.core.route import UpstreamUrl

_EXPECTED = "expected a URL such as http://dead-letters.internal/{{host}}/{{path}}?{{query}}, got {!r:.60}"
_URL = re.compile(r"(?P<origin>https?://[^/?#{}]+)(?P<rest>[/?][!\"$-~]*)?")
BRACED = re.compile(r"\{(?P<name>[^{}]*)\}")
# What may stand in braces, in path and query.
PLACEHOLDERS = ("scheme", "host", "port", "path", "query")


class FallbackOn(Enum):
    """When a request is redirected (`fallback.on`).

    `refusal` is when its circuit refuses it. `failure` is also when the attempt fails before any byte of an
    answer has reached the client, and its content is still whole.
    """

    REFUSAL = "refusal"
    FAILURE = "failure"


class DeferOrder(Enum):
    """What waits behind deferred requests of the same circuit (`fallback.order`).

    `loose` is deferred requests only: live ones pass as soon as the circuit lets them. `strict` is live ones
    as well: they are deferred until none is waiting.
    """

    LOOSE = "loose"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class RedirectUrl:
    """Where redirected requests go.

    Attributes:
        origin: scheme, host and port.
        path, query: as written, with placeholders; the query without its question mark, None without one.
    """

    origin: UpstreamUrl
    path: str
    query: str | None = None

    @classmethod
    def parse(cls, value: object) -> Self:
        """Reads the setting.

        Raises:
            ValueError: for anything else; the text says what was expected.
        """
        parts = _URL.fullmatch(value) if isinstance(value, str) else None
        if parts is None:
            raise ValueError(_EXPECTED.format(value))
        path, question, query = (parts["rest"] or "/").partition("?")
        for braced in BRACED.finditer(path + question + query):
            if braced["name"] not in PLACEHOLDERS:
                known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
                raise ValueError(f"expected one of {known} in braces, got {braced[0]!r:.40}")
        return cls(UpstreamUrl.parse(parts["origin"]), path or "/", query if question else None)

    def __str__(self) -> str:
        return f"{self.origin}{self.path}{'' if self.query is None else f'?{self.query}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """What happens to the requests of one upstream that its circuit refuses; by default they are rejected.

    Attributes:
        redirect: where they are forwarded instead.
        internal: whether that may be called whatever the class of its address.
        on: when.
        defer: whether they are stored, answered 202, and delivered later.
        order: what waits behind those.
    """

    redirect: RedirectUrl | None = None
    internal: bool = False
    on: FallbackOn = FallbackOn.REFUSAL
    defer: bool = False
    order: DeferOrder = DeferOrder.LOOSE

    # The word that stands for the section with nothing written in it.
    WORD = "reject"


NO_FALLBACK = Fallback()
