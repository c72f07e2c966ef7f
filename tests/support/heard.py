"""What httptools calls while it parses a response, written down."""

from dataclasses import dataclass, field
from typing import Any

import httptools
import pytest


@dataclass
class Heard:
    """Everything that the library calls, in order."""

    calls: list[Any] = field(default_factory=list)

    def on_message_begin(self) -> None:
        self.calls.append("begin")

    def on_status(self, reason: bytes) -> None:
        self.calls.append(("reason", reason))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.calls.append((name, value))

    def on_headers_complete(self) -> None:
        self.calls.append("head")

    def on_chunk_header(self) -> None:
        self.calls.append("chunk")

    def on_body(self, content: bytes) -> None:
        self.calls.append(("content", content))

    def on_message_complete(self) -> None:
        self.calls.append("end")

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        return [call for call in self.calls if isinstance(call, tuple) and isinstance(call[0], bytes)]

    @property
    def content(self) -> bytes:
        return b"".join(call[1] for call in self.calls if call[0] == "content")

    @property
    def reason(self) -> bytes:
        return b"".join(call[1] for call in self.calls if call[0] == "reason")

    def after_head(self) -> list[Any]:
        return self.calls[self.calls.index("head") + 1 :]


def made(*, lenient: bool = True) -> tuple[Heard, httptools.HttpResponseParser]:
    heard = Heard()
    parser = httptools.HttpResponseParser(heard)
    if lenient:
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
    return heard, parser


def heard_of(*pieces: bytes, lenient: bool = True) -> Heard:
    heard, parser = made(lenient=lenient)
    for piece in pieces:
        parser.feed_data(piece)
    return heard


def refused(text: bytes, *, lenient: bool = True) -> Heard:
    """What was heard before the library refused."""
    heard, parser = made(lenient=lenient)
    with pytest.raises(httptools.HttpParserError):
        parser.feed_data(text)
    return heard
