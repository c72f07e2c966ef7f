"""What may go wrong with the bytes of messages on their way, how they are cut, and how it ends."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, pairwise

from fuzz.messages import FAULTY, ODD_HOSTS, PORT, REFUSED, REQUESTS, RESPONSES, TUNNEL, UPSTREAM
from hypothesis import strategies as st

_TOKENS = [
    *(bytes([one]) for one in b"\r\n\0\t \x0b\x0c\x1f\x7f\x80\xff:;,=/?#@\"'0159afz_-+x"),
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\n ",
    b"\r\r\n",
    b"0\r\n\r\n",
    b"1\r\nZ\r\n",
    b"chunked",
    b", chunked",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length : 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: content-length, transfer-encoding, host\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Max-Forwards: 0\r\n",
    b"Host: b\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"100 Continue",
    b"101 Switching Protocols",
    b"204 No Content",
]
_NUMBERS = [b"0", b"1", b"-1", b"+5", b"0x5", b"05", b"5 ", b"5, 5", b"1_0", b"7fffffff", b"99999", b"f" * 17]

Change = Callable[[bytes], bytes]


def _at(place: int, text: bytes) -> int:
    return place % (len(text) + 1)


def _on_lines(change: Callable[[list[bytes]], None]) -> Change:
    def changed(text: bytes) -> bytes:
        lines = text.splitlines(keepends=True)
        if lines:
            change(lines)
        return b"".join(lines)

    return changed


def _inserted(place: int, what: bytes) -> Change:
    return lambda text: text[: _at(place, text)] + what + text[_at(place, text) :]


def _flipped(place: int, mask: int) -> Change:
    def changed(text: bytes) -> bytes:
        at = place % max(len(text), 1)
        return text[:at] + bytes(one ^ mask for one in text[at : at + 1]) + text[at + 1 :]

    return changed


def _deleted(place: int, count: int) -> Change:
    return lambda text: text[: _at(place, text)] + text[_at(place, text) + count :]


def _truncated(place: int) -> Change:
    return lambda text: text[: _at(place, text)]


def _duplicated(line: int) -> Change:
    return _on_lines(lambda lines: lines.insert(line % len(lines), lines[line % len(lines)]))


def _swapped(one: int, other: int) -> Change:
    def change(lines: list[bytes]) -> None:
        first, second = one % len(lines), other % len(lines)
        lines[first], lines[second] = lines[second], lines[first]

    return _on_lines(change)


def _before_line(line: int, what: bytes) -> Change:
    return _on_lines(lambda lines: lines.insert(line % len(lines), what))


def _line_end(line: int, end: bytes) -> Change:
    def change(lines: list[bytes]) -> None:
        at = line % len(lines)
        lines[at] = lines[at].rstrip(b"\r\n") + end

    return _on_lines(change)


def _in_line(line: int, place: str, what: bytes) -> Change:
    """Puts something where the parts of a line meet."""

    def change(lines: list[bytes]) -> None:
        at = line % len(lines)
        text = lines[at].rstrip(b"\r\n")
        name = text.find(b":")
        where = {"begin": 0, "name": name, "colon": name + 1, "value": name + 2, "end": len(text)}[place]
        where = min(max(where, 0), len(text))
        lines[at] = text[:where] + what + lines[at][where:]

    return _on_lines(change)


def _renumbered(which: int, number: bytes) -> Change:
    def changed(text: bytes) -> bytes:
        # Lengths, sizes of chunks, versions and statuses; not the ports.
        found = list(re.finditer(rb"(?<=: )[0-9]+|(?<=\n)[0-9a-f]+(?=[\r;])|(?<=HTTP/)[0-9.]+", text))
        if not found:
            return text
        begin, end = found[which % len(found)].span()
        return text[:begin] + number + text[end:]

    return changed


def _recased(place: int) -> Change:
    def changed(text: bytes) -> bytes:
        at = _at(place, text)
        return text[:at] + text[at : at + 9].swapcase() + text[at + 9 :]

    return changed


def _respelled(which: int, host: bytes) -> Change:
    """Names an upstream in another way."""

    def changed(text: bytes) -> bytes:
        found = list(re.finditer(re.escape(UPSTREAM) + b"|" + re.escape(TUNNEL), text))
        if not found:
            return text
        begin, end = found[which % len(found)].span()
        return text[:begin] + host + b":" + PORT + text[end:]

    return changed


# The first one most often: it is the one of the target.
_RESPELLED = st.builds(_respelled, st.sampled_from([0, 0, 1, 2]), st.sampled_from(ODD_HOSTS))
_PLACE = st.integers(0, 1500)
_LINE = st.integers(0, 40)


def _changes(others: dict[str, bytes]) -> st.SearchStrategy[Change]:
    token = st.sampled_from(_TOKENS)
    control = st.sampled_from([bytes([one]) for one in b"\r\n\0\t \x0b"])
    other = st.sampled_from(sorted(others.values()))
    in_line = st.builds(
        _in_line,
        _LINE,
        st.sampled_from(["begin", "name", "colon", "value", "end"]),
        st.one_of(control, token),
    )
    return st.one_of(
        in_line,
        in_line,
        in_line,
        st.builds(_inserted, _PLACE, token),
        st.builds(_flipped, _PLACE, st.integers(1, 255)),
        st.builds(_deleted, _PLACE, st.integers(1, 30)),
        st.builds(_duplicated, _LINE),
        st.builds(_swapped, _LINE, _LINE),
        st.builds(_before_line, _LINE, token),
        st.builds(
            _line_end, _LINE, st.sampled_from([b"\n", b"\r", b"", b"\r\r\n", b" \r\n", b"\0\r\n", b"\t\n"])
        ),
        st.builds(_renumbered, _LINE, st.sampled_from(_NUMBERS)),
        st.builds(_recased, _PLACE),
        st.builds(_truncated, _PLACE),
        st.builds(_inserted, _PLACE, other),
        st.builds(
            lambda place, text, begin: _inserted(place, text[_at(begin, text) :]), _PLACE, other, _PLACE
        ),
    )


class Ending(Enum):
    """How a conversation ends once nobody has anything to say."""

    FIN = "fin"
    RESET = "reset"
    CLOCK = "clock"  # all deadlines pass
    STAY = "stay"  # of an upstream: it goes on serving


@dataclass(frozen=True)
class Sent:
    """What one side sends, where it is cut into pieces (None: behind each byte), and how it ends."""

    text: bytes
    cuts: tuple[int, ...] | None
    ending: Ending

    def pieces(self, text: bytes) -> list[bytes]:
        """A text of about the same length, cut."""
        if self.cuts is None:
            return [text[at : at + 1] for at in range(len(text))]
        places = (0, *sorted(self.cuts), len(text))
        return [text[begin:end] for begin, end in pairwise(places) if begin < end]


# Byte by byte is slow, and seldom tells more than a cut at the right place.
_CUTTING = ["between"] * 6 + ["anywhere"] * 5 + ["bytes"]


@st.composite
def _mutated(
    draw: st.DrawFn, valid: dict[str, bytes], most: int, endings: list[Ending], *, respelled: bool
) -> Sent:
    changes = _changes(valid)
    chosen = draw(st.lists(st.sampled_from(sorted(valid)), min_size=1, max_size=most))
    messages = [valid[name] for name in chosen]
    for _ in range(draw(st.integers(0, 3))):
        # The last one most often: what stands before it comes through.
        at = max(0, draw(st.integers(0, 2 * len(messages) - 1)) - len(messages))
        messages[-1 - at] = draw(changes)(messages[-1 - at])
    if respelled and draw(st.integers(0, 3)) == 0:
        # Behind the others: what they make of an address might be that of somebody else.
        messages[-1] = draw(_RESPELLED)(messages[-1])
    text = b"".join(messages)
    cuts: tuple[int, ...] | None
    match draw(st.sampled_from(_CUTTING)):
        case "between":
            cuts = tuple(accumulate(len(message) for message in messages))
        case "anywhere":
            cuts = tuple(_at(cut, text) for cut in draw(st.lists(_PLACE, min_size=1, max_size=4)))
        case _:
            cuts = None
    return Sent(text, cuts, draw(st.sampled_from(endings)))


# Waiting for the sweep takes longest, so the clock's turn is seldom.
MUTATED_REQUESTS = _mutated(
    REQUESTS | REFUSED, 4, [*[Ending.FIN] * 12, *[Ending.RESET] * 6, Ending.CLOCK], respelled=True
)
MUTATED_RESPONSES = _mutated(
    RESPONSES | FAULTY,
    2,
    [*[Ending.STAY] * 9, *[Ending.FIN] * 9, *[Ending.RESET] * 3, Ending.CLOCK],
    respelled=False,
)
