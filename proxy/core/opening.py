"""What a client has said first inside its tunnel, from the first byte to the point where that is clear."""

from proxy.core.client_hello import ClientHello, NotTls, parse
from proxy.core.first_bytes import Kind, kind


class Opening:
    """Collects it.

    Args:
        max_head: bytes that a request line may have (`limits.max_head`).

    Attributes:
        received: all that has come so far.
        kind: what it is, UNDECIDED while that is not clear; TLS once the ClientHello is whole, or is none.
        hello: the ClientHello, None if there is none that makes sense.
    """

    __slots__ = ("_max_head", "hello", "kind", "received")

    def __init__(self, max_head: int) -> None:
        self._max_head = max_head
        self.received = bytearray()
        self.kind = Kind.UNDECIDED
        self.hello: ClientHello | None = None

    @property
    def begins_tls(self) -> bool:
        """Whether it begins as TLS does, whether or not all of it has come."""
        return self.received[:1] == b"\x16"

    @property
    def may_lead_to_tls(self) -> bool:
        """The same, or as an alert does: some servers skip a warning, and take the ClientHello behind it."""
        return self.begins_tls or self.received[:1] == b"\x15"

    def add(self, sent: bytes) -> Kind:
        """Takes what has come, and says what all of it is."""
        self.received += sent
        if self.kind is Kind.UNDECIDED:
            self.kind = self._judged()
        return self.kind

    def _judged(self) -> Kind:
        said = kind(self.received, self._max_head)
        if said is not Kind.TLS:
            return said
        try:
            self.hello = parse(self.received)
        except NotTls:
            return Kind.TLS
        return Kind.UNDECIDED if self.hello is None else Kind.TLS
