"""What a line of the fault matrix is made of, and the kinds of lines that it has."""

from enum import Enum
from typing import NamedTuple

# Why an entry has no such fault.
AT_CONNECT = "its CONNECT gets the answer of a tunnel, and nothing comes inside of it"
NO_TUNNEL = "it has no CONNECT"
SEEN = "its requests are seen one by one"


class End(Enum):
    """What a client gets instead of a whole answer."""

    CUT = "cut"
    RESET = "reset"
    NOTHING = "closed without a byte"
    LEFT = "nobody is there"
    CLOSED = "a tunnel, which is closed behind its 200"


class Cell(NamedTuple):
    """What one fault does by one entry.

    Attributes:
        gets: the status of the answer that the client gets, or how it ends without one.
        error: the type of RFC 9209; empty if the exchange went well, or the client has left.
        reason: the token of `X-Breaker-Reason`.
        books: the outcome in the circuit; None if no call was admitted.
        retry_after_s: of the answer.
        keeps: whether the client's connection takes another request.
    """

    gets: int | End
    error: str
    reason: str
    books: str | None
    retry_after_s: int | None = None
    keeps: bool = False


class Row(NamedTuple):
    """One fault; where an entry cannot have it, a sentence says why.

    Attributes:
        fault: what happens, for a reader who has seen only its result.
    """

    fault: str
    forward: Cell | str
    reverse: Cell | str
    intercepted: Cell | str
    tunnel: Cell | str


def own(status: int, error: str, books: str | None, reason: str = "", retry: int | None = None) -> Cell:
    """An answer of the proxy's, behind which the connection goes on."""
    return Cell(status, error, reason or error, books, retry, keeps=True)


def closing(cell: Cell) -> Cell:
    """The same, but the connection closes."""
    return cell._replace(keeps=False)


def cut(error: str, books: str, gets: End = End.CUT, reason: str = "") -> Cell:
    """An answer that had begun."""
    return Cell(gets, error, reason or error, books)


def left(books: str) -> Cell:
    """Nobody is there to be answered."""
    return Cell(End.LEFT, "", "", books)


def closed(error: str, books: str | None, reason: str = "") -> Cell:
    """A tunnel that stood."""
    return Cell(End.CLOSED, error, reason or error, books)


def anywhere(fault: str, cell: Cell) -> Row:
    """The same by each entry."""
    # A CONNECT that is not answered 2xx ends its connection: what follows it may be meant for the tunnel.
    return Row(fault, cell, cell, cell, closing(cell))


def by_rule(fault: str, cell: Cell) -> Row:
    """What is refused before any circuit is asked: where TLS is intercepted, with the CONNECT."""
    return Row(fault, cell, cell, AT_CONNECT, closing(cell))


def http(fault: str, cell: Cell, tunnel: Cell | str) -> Row:
    """What requests can have."""
    return Row(fault, cell, cell, cell, tunnel)


def tunnel(fault: str, cell: Cell) -> Row:
    """What only a tunnel can have."""
    return Row(fault, NO_TUNNEL, NO_TUNNEL, SEEN, cell)


def intercepted(fault: str, cell: Cell, tunnel: Cell | str) -> Row:
    """What is said inside of a CONNECT."""
    return Row(fault, NO_TUNNEL, NO_TUNNEL, cell, tunnel)


def bad(status: int, reason: str) -> Cell:
    """A request at fault."""
    return closing(own(status, "http_request_error", None, reason))


def refused_inside(reason: str) -> Cell:
    """A client at fault, to whom nothing can be said."""
    return closed("http_request_error", None, reason)


def denied(status: int, reason: str) -> Cell:
    """What rules on hosts and ports forbid."""
    return own(status, "http_request_denied", None, reason)


def refused_now(reason: str, retry: int) -> Cell:
    """What a circuit refuses."""
    return own(503, "destination_unavailable", None, reason, retry)
