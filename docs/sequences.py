"""Draws the pictures of docs/https.md: who says what to whom in each mode, and who can read it.

A picture is a list of steps, from the top to the bottom. What is inside of TLS is in a blue band that reaches
from the one who encrypts to the one who decrypts; a dashed arrow passes the proxy unread. The words that a
program says come from the program. `make pictures` writes them beside this file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from paper import label, picture

from proxy.core.errors import MisdirectedRequest
from proxy.core.outcome import SUCCESS, FailureKind, failed, of_status
from proxy.core.policy import CircuitPolicy
from proxy.wire.responses import CONNECT_ESTABLISHED


class Who(Enum):
    """Who takes part, and where their lines are."""

    CLIENT = 120
    PROXY = 490
    UPSTREAM = 860


@dataclass(frozen=True)
class Says:
    """One says something to another.

    Attributes:
        is_unread: whether it goes through the proxy, which cannot read it.
    """

    sender: Who
    receiver: Who
    words: str
    is_unread: bool = False


@dataclass(frozen=True)
class Does:
    """What the proxy does; of a circuit where `asks_circuit`."""

    lines: tuple[str, ...]
    asks_circuit: bool = False


@dataclass(frozen=True)
class Tls:
    """What is encrypted between two, or three if the proxy is between them."""

    ends: tuple[Who, Who]
    name: str
    steps: tuple["Step", ...]


Step = Says | Does | Tls

CLIENT, PROXY, UPSTREAM = Who
HOST = "api.example.com"
ESTABLISHED = CONNECT_ESTABLISHED.decode("ascii").partition("\r\n")[0]
FAILED = of_status(500, CircuitPolicy())
HELLO = f"ClientHello: SNI {HOST}, ALPN"

TUNNEL: tuple[Step, ...] = (
    Says(CLIENT, PROXY, f"CONNECT {HOST}:443"),
    Does(("rules (egress), then the host's circuit:", "a permit, or 503"), asks_circuit=True),
    Says(PROXY, UPSTREAM, "TCP to an address that the rules let pass"),
    Says(PROXY, CLIENT, ESTABLISHED),
    Says(CLIENT, PROXY, HELLO),
    Does(("held until it is whole: SNI logged,", "egress.sni asked")),
    Says(PROXY, UPSTREAM, "the same bytes"),
    Says(UPSTREAM, CLIENT, "the first bytes back", is_unread=True),
    Does(
        (
            f"the permit settles: {SUCCESS}, or {failed(FailureKind.TLS)} if they are a fatal alert;",
            f"{failed(FailureKind.TUNNEL)} if it closes, or keeps silent for timeouts.head",
        ),
        asks_circuit=True,
    ),
    Tls(
        (CLIENT, UPSTREAM),
        "TLS from end to end",
        (
            Says(CLIENT, UPSTREAM, "POST /hook", is_unread=True),
            Says(UPSTREAM, CLIENT, "500", is_unread=True),
        ),
    ),
)

_UPSTREAMS_TLS = Tls(
    (PROXY, UPSTREAM),
    "TLS, verified, new or kept alive",
    (
        Says(PROXY, UPSTREAM, "POST /hook"),
        Says(UPSTREAM, PROXY, "500"),
    ),
)

INTERCEPT: tuple[Step, ...] = (
    Says(CLIENT, PROXY, f"CONNECT {HOST}:443"),
    Does(("rules (egress); no circuit is asked,", "nobody is connected to")),
    Says(PROXY, CLIENT, ESTABLISHED),
    Says(CLIENT, PROXY, HELLO),
    Does((f"a leaf certificate for {HOST},", "signed by the sidecar's own CA")),
    Tls(
        (CLIENT, PROXY),
        "TLS by that certificate",
        (
            Says(CLIENT, PROXY, "POST /hook"),
            Does(
                (
                    f"another authority: {MisdirectedRequest.status}; rules again, then the circuits:",
                    "a permit, or 503, which the client can read",
                ),
                asks_circuit=True,
            ),
            _UPSTREAMS_TLS,
            Does((f"the permit settles: {FAILED}",), asks_circuit=True),
            Says(PROXY, CLIENT, "500"),
            Says(CLIENT, PROXY, "the next request, with a permit of its own"),
        ),
    ),
)

ORIGINATE: tuple[Step, ...] = (
    Says(CLIENT, PROXY, f"POST http://{HOST}/hook"),
    Does(
        (
            f"becomes https://{HOST}/hook (80 becomes 443);",
            f"rules, then the circuit of {HOST}:443:",
            "a permit, or 503",
        ),
        asks_circuit=True,
    ),
    _UPSTREAMS_TLS,
    Does((f"the permit settles: {FAILED}",), asks_circuit=True),
    Says(PROXY, CLIENT, "500"),
)

_HEAD, _TOP, _BOTTOM = 34, 66, 26
_MESSAGE, _NOTE_LINE, _NOTE_EDGES, _GAP = 34, 17, 14, 12
_BAND_HEAD, _BAND_FOOT = 26, 12
_SIDES = (-16, 16)
_LETTER = 7.4


def _draw(title: str, steps: tuple[Step, ...]) -> str:
    under: list[str] = []
    over: list[str] = []
    end = _place(steps, _TOP, under, over)
    names = {CLIENT: "your dispatcher", PROXY: "breaker-proxy", UPSTREAM: HOST}
    lines = [f'<path class="line d" d="M {who.value},{_HEAD + 14} V {end + _BOTTOM - 12}"/>' for who in Who]
    heads = [label(who.value, _HEAD, name, "m h") for who, name in names.items()]
    return picture(end + _BOTTOM, title, [*under, *lines, *heads, *over])


def _place(steps: tuple[Step, ...], y: int, under: list[str], over: list[str]) -> int:
    """Places steps from a height on; returns where they end."""
    for step in steps:
        if isinstance(step, Says):
            y += _MESSAGE
            over.extend(_message(step, y))
        elif isinstance(step, Does):
            y += _GAP
            height = _NOTE_LINE * len(step.lines) + _NOTE_EDGES
            over.extend(_note(step, y, height))
            y += height
        else:
            y += _GAP
            place = len(under)
            begin, y = y, _place(step.steps, y + _BAND_HEAD, under, over) + _BAND_FOOT
            under[place:place] = _band(step, begin, y)
    return y


def _message(says: Says, y: int) -> Iterator[str]:
    begin, end = says.sender.value, says.receiver.value
    # Beside the line of whoever stands there.
    way = 4 if end > begin else -4
    dashed = " d" if says.is_unread else ""
    yield f'<path class="line arrow{dashed}" d="M {begin + way},{y} H {end - way}"/>'
    # In the half of the client's side, if it passes the proxy: there would be the proxy's line.
    middle = (CLIENT.value + PROXY.value) / 2 if says.is_unread else (begin + end) / 2
    yield label(middle, y - 7, says.words, "m t")


def _note(does: Does, y: int, height: int) -> Iterator[str]:
    width = max(map(len, does.lines)) * _LETTER + 28
    kind = "half_open" if does.asks_circuit else "note"
    place = f'x="{PROXY.value - width / 2:g}" y="{y}" width="{width:g}" height="{height}" rx="6"'
    yield f'<rect class="{kind}" {place}/>'
    for number, line in enumerate(does.lines):
        yield label(PROXY.value, y + _NOTE_LINE * (number + 1) + 1, line, "m")


def _band(tls: Tls, begin: int, end: int) -> Iterator[str]:
    # At the proxy one may end where the other begins.
    left, right = (
        who.value + (0 if who is PROXY else side) for who, side in zip(tls.ends, _SIDES, strict=True)
    )
    place = f'x="{left}" y="{begin}" width="{right - left}" height="{end - begin}"'
    yield f'<rect class="tls" {place} rx="8"/>'
    yield label(tls.ends[0].value + 12, begin + 18, tls.name, "b")


PICTURES = {
    "https-tunnel.svg": partial(_draw, "https: tunnel", TUNNEL),
    "https-intercept.svg": partial(_draw, "https: intercept", INTERCEPT),
    "https-originate.svg": partial(_draw, "https: originate", ORIGINATE),
}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        Path(__file__).with_name(name).write_text(draw(), encoding="utf-8")
