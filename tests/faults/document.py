"""Makes docs/errors.md of the fault matrix, the errors of the product, and the advice.

`python -m faults.document` in tests/ writes it; test_document.py compares.
"""

from collections.abc import Iterator
from pathlib import Path

from faults.advice import ADVICE
from faults.matrix import MATRIX
from faults.rows import Cell, End, Row

from proxy.core.acl import Acl, OwnListeners
from proxy.core.address import Network
from proxy.core.egress import AllowedAddresses, Egress, Hosts, SniRules
from proxy.core.errors import (
    AnswerPassedOver,
    ConnectionLimitReached,
    DestinationIpProhibited,
    DestinationUnavailable,
    HttpRequestDenied,
    ProxyError,
    ProxyInternalResponse,
)
from proxy.core.exchange import Entry, Exchange
from proxy.core.host_pattern import HostPattern
from proxy.core.ports import Ports
from proxy.core.refusals import CIRCUIT_OPEN, REJECTION_REASONS, refused
from proxy.core.target import from_authority_form
from proxy.wire.responses import render

PAGE = Path(__file__).parent.parent.parent / "docs" / "errors.md"
HOST = "api.example.com:443"

_BEGIN = """# Errors

**Whose answer is it?** Every answer that the proxy gives by itself has the field `X-Breaker-Reason`, and no
other answer has it: what an upstream sends under this name is removed. An answer without it is the upstream's
own, passed on as it came.

"""
_HOW_TO_READ = """
- Look the reason up [below](#by-reason). The content says the same in JSON, and `detail` says more.
- A client that shows only the first line, as Go's do for `https://`, shows the [phrase](#by-phrase).
- **No answer at all, or half of one?** An answer that has begun cannot become another one, so it is cut, and
  a tunnel that has its `200` can only be closed. Only the line `exchange ended` in the log says why, with
  the same words as `error`, `reason` and `details`. Where TLS is intercepted, the requests inside get answers
  that can be read.
- A call that was refused at once, by a circuit or by a limit, has no such line, and one without a token only
  with `log.access: all`. Circuits count their refusals in `breaker_proxy_rejected_total`, and say in the line
  `circuit changed` why they opened. What rules refuse, and requests at fault, are counted in
  `breaker_proxy_denied_total`.
- `outcome` in the log is what the call said of its upstream. Only a `failure` brings a circuit nearer to
  opening (see [circuits](circuits.md#what-counts-as-what)).

"""
_BY_REASON = """## By reason

| reason | what happened | whose fault | what to do |
|---|---|---|---|
"""
_BY_PHRASE = """
## By phrase

*Cut* stands for an answer that had begun, *closed* for a tunnel that had its `200`: then all of this is in
the log alone. `Retry-After` is in seconds.

| phrase | status | on CONNECT | reason | error in `Proxy-Status` | `Retry-After` | the circuit books |
|---|---|---|---|---|---|---|
"""
_MATRIX = """
## The fault matrix

What each fault does, by each entry. *Forward* is a request with a whole URL on `listen.proxy`, *reverse* one
on `listen.reverse`, *intercepted* one inside of a CONNECT with `https: intercept`; *tunnel* is a CONNECT up
to its `200`, and what comes behind that where the client gets *200, then closed*: the rest is bytes to the
proxy, and is judged as [circuits](circuits.md#what-counts-as-what) says. The faults of an upstream's TLS are
those of `https://` URLs, of routes to such, and of interception. A test provokes each line by each entry in
it.

- *the client gets* a status, with the fields above; or the answer is *cut* before its end; or *reset*, where
  an orderly end would look like a whole answer; or *nothing*: the connection closes without a byte; or
  *200, then closed*: a tunnel that stood comes to its end.
- *Retry-After* is what is left of `circuit.open`, here 30 s; 60 if an operator gave no time; else 1. So the
  first refused call is told; the others come back [behind it](circuits.md#what-refused-clients-are-told).
- *the circuit books* what the call said of its upstream; *not asked*: no call was admitted.
- *connection*: whether it takes the client's next request. After a refused CONNECT it never does: what
  follows could be meant for the tunnel, and nobody may read it as a request.
"""
# Those that have their reasons where they are made, are but the parents of others, or are told to no client.
_TOLD_ELSEWHERE = {
    AnswerPassedOver,
    ConnectionLimitReached,
    DestinationUnavailable,
    ProxyInternalResponse,
    HttpRequestDenied,
    DestinationIpProhibited,
}
_GOTTEN = {
    End.CUT: "cut",
    End.RESET: "reset",
    End.NOTHING: "nothing",
    End.LEFT: "has left",
    End.CLOSED: "200, then closed",
}


def page() -> str:
    """The whole of docs/errors.md."""
    return "".join([_BEGIN, *_example(), _HOW_TO_READ, *_advice(), *_phrases(), _MATRIX, *_matrix()])


def cells(row: Row) -> dict[Entry, Cell | str]:
    """The cells of a row by entry."""
    return {Entry(name): cell for name, cell in row._asdict().items() if name != "fault"}


def told(reason: str) -> list[tuple[Entry, Cell]]:
    """All cells with this reason."""
    rows = (row for rows in MATRIX.values() for row in rows.values())
    return [
        (entry, cell)
        for row in rows
        for entry, cell in cells(row).items()
        if isinstance(cell, Cell) and cell.reason == reason
    ]


def reasons() -> dict[str, list[ProxyError]]:
    """Every reason that the product knows, with the errors that have it."""
    found = {reason: [refused(reason, HOST, 1)] for reason in REJECTION_REASONS}
    others = [kind("") for kind in _below(ProxyError) if kind not in _TOLD_ELSEWHERE]
    for error in (*_denials(), *others):
        found.setdefault(error.reason, []).append(error)
    return found


def _denials() -> Iterator[ProxyError]:
    """What the rules say, each made to forbid the same tunnel; their refusals name the settings."""
    target = from_authority_form("192.0.2.1:443")
    tunnel = Exchange(Entry.TUNNEL, "CONNECT", 0)
    own = OwnListeners(lambda _: True)
    own.ports = frozenset({target.port})
    here = HostPattern(target.host)
    for rules in (
        Acl(Egress(connect_ports=Ports.parse([80]))),
        Acl(Egress(hosts=Hosts(deny=(here,)))),
        Acl(Egress(hosts=Hosts(allow=()))),
        Acl(Egress(addresses=AllowedAddresses.ANY), own),
        Acl(Egress(deny=(Network.parse(target.host),))),
        Acl(Egress()),
    ):
        try:
            rules.authorize(tunnel, target)
        except ProxyError as error:
            yield error
    try:
        Acl(Egress(sni=SniRules.ENFORCE)).authorize_hello(tunnel, target, None)
    except ProxyError as error:
        yield error


def _below(kind: type[ProxyError]) -> Iterator[type[ProxyError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _below(below)


def _example() -> Iterator[str]:
    answer = render(
        refused(CIRCUIT_OPEN, HOST, 21),
        name="breaker-proxy-3f9c02ab",
        method="GET",
        next_hop=HOST,
        keep_alive=True,
    )
    yield f"```\n{answer.decode('ascii').replace(chr(13), '')}```\n"


def _advice() -> Iterator[str]:
    yield _BY_REASON
    for reason, advice in sorted(ADVICE.items()):
        yield _line(f"`{reason}`", advice.happened, advice.whose, advice.do)


def _phrases() -> Iterator[str]:
    yield _BY_PHRASE
    lines = {
        (error.phrase.replace(HOST, "HOST"), error.status, error.connect_status, reason, error.error_type)
        for reason, errors in reasons().items()
        for error in errors
    }
    for phrase, status, on_connect, reason, error_type in sorted(lines):
        found = [cell for _, cell in told(reason)]
        waits = {cell.retry_after_s for cell in found if isinstance(cell.gets, int)}
        yield _line(
            phrase,
            _status(status, [cell for entry, cell in told(reason) if not _is_of_connect(entry, cell)]),
            _status(on_connect, [cell for entry, cell in told(reason) if _is_of_connect(entry, cell)]),
            f"`{reason}`",
            f"`{error_type}`",
            "" if waits <= {None} else "1" if waits == {1} else "what is left",
            ", ".join(sorted({cell.books or "not asked" for cell in found})),
        )


def _is_of_connect(entry: Entry, cell: Cell) -> bool:
    """Whether it is a CONNECT that has this error, be it to be intercepted or not."""
    return entry is Entry.TUNNEL or cell.gets is End.CLOSED


def _status(status: int, found: list[Cell]) -> str:
    """The status where it is sent."""
    is_sent = any(isinstance(cell.gets, int) for cell in found)
    is_cut = any(cell.gets in {End.CUT, End.RESET} for cell in found)
    is_closed = any(cell.gets is End.CLOSED for cell in found)
    return " or ".join([*[str(status)] * is_sent, *["cut"] * is_cut, *["closed"] * is_closed])


def _matrix() -> Iterator[str]:
    for title, rows in MATRIX.items():
        notes: list[str] = []
        yield f"\n### {title}\n\n"
        yield _line(
            "fault", "entry", "the client gets", "reason", "`Retry-After`", "the circuit books", "connection"
        )
        yield "|---|---|---|---|---|---|---|\n"
        for row in rows.values():
            yield from _row(row, notes)
        yield "".join(f"\n({number}) Not for {note}.\n" for number, note in enumerate(notes, start=1))


def _row(row: Row, notes: list[str]) -> Iterator[str]:
    merged: dict[Cell, list[Entry]] = {}
    absent: dict[str, list[str]] = {}
    for entry, cell in cells(row).items():
        if isinstance(cell, Cell):
            merged.setdefault(cell._replace(keeps=False), []).append(entry)
        else:
            absent.setdefault(cell, []).append(entry.value)
    missing = []
    for why, names in absent.items():
        note = f"{' and '.join([', '.join(names[:-1]), names[-1]][len(names) == 1 :])}: {why}"
        if note not in notes:
            notes.append(note)
        missing.append(f"({notes.index(note) + 1})")
    for cell, entries in merged.items():
        kept = [entry for entry in entries if _is_kept(row, entry)]
        connection = "closes" if not kept else "stays" if kept == entries else "stays; tunnel: closes"
        gets = _GOTTEN[cell.gets] if isinstance(cell.gets, End) else str(cell.gets)
        yield _line(
            row.fault,
            " ".join([_named(entries), *missing]),
            gets,
            f"`{cell.reason}`" if cell.reason else "",
            str(cell.retry_after_s or ""),
            cell.books or "not asked",
            "" if cell.gets is End.LEFT else connection,
        )


def _is_kept(row: Row, entry: Entry) -> bool:
    cell = cells(row)[entry]
    return isinstance(cell, Cell) and cell.keeps


def _named(entries: list[Entry]) -> str:
    return "all" if len(entries) == len(Row._fields) - 1 else ", ".join(entry.value for entry in entries)


def _line(*texts: str) -> str:
    return f"| {' | '.join(texts)} |\n".replace("|  |", "| |").replace("|  |", "| |")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
