"""The name of a circuit, taken apart: who knows the name finds the settings of its upstream.

Names are made in `target.py` (of a host, `api.example.com:443`; with `+internal` where a route calls it so)
and in `scope.py` (of an endpoint, with `#` and a hash behind that).
"""

import re
from typing import NamedTuple, Self

from proxy.core.host import normalised, split

_HASH = re.compile(r"[0-9a-f]{16}")
_INTERNAL = "+internal"


class CircuitName(NamedTuple):
    """The parts of a name.

    Attributes:
        host: normalised, an IPv6 address without its brackets.
        port: 1-65535.
        is_internal: whether a route calls the host internal.
        endpoint: the hash of an endpoint, 16 hexadecimal digits; empty for the host itself.
    """

    host: str
    port: int
    is_internal: bool = False
    endpoint: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a name; the host may be in any of its spellings.

        Raises:
            ValueError: it is none; the text says what was expected, and repeats nothing of it.
        """
        host_key, mark, endpoint = text.partition("#")
        if mark and not _HASH.fullmatch(endpoint):
            raise ValueError("behind the # of an endpoint stand 16 hexadecimal digits")
        authority = host_key.removesuffix(_INTERNAL)
        host, port = split(authority)
        if port is None:
            raise ValueError("a circuit is named host:port")
        return cls(normalised(host), port, authority != host_key, endpoint)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        internal = _INTERNAL if self.is_internal else ""
        return f"{host}:{self.port}{internal}" + (f"#{self.endpoint}" if self.endpoint else "")
