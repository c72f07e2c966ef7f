"""TLS as bytes in and bytes out: OpenSSL on memory BIOs, without a connection.

The BIOs grow to a third more than the most that was ever in them, and never shrink, so little is put in at
once.

OpenSSL offers servers the finite fields of RFC 7919 as well. The largest takes us 0.1 s, on the event loop,
and the server nothing. Python has no way to offer less, so a server that asks for one is refused.
"""

import ssl
from contextlib import suppress

from proxy.core.client_hello import NotTls, key_groups

# The most that a record carries (RFC 8446 section 5.1).
_MOST_BYTES = 16 * 1024
# What one of ours carries, and how much of what has come is put in at once. An idle connection keeps that
# much for each direction, and a long answer takes more CPU time the smaller the pieces are: this is between
# both. Weigh another size by `make bench-memory ARGS="--only TLS"` and `make bench-https`.
RECORD_BYTES = 8 * 1024
# Finite fields of RFC 7919, by the numbers of their groups; those of more than 3072 bits take 14 ms and more.
_FINITE_FIELDS = range(0x0100, 0x0200)
# So much is put in at once while shaking hands as a client: less than a key of 4096 bits.
_PIECE_BYTES = 512
# It goes ahead of a second ClientHello (RFC 8446 appendix D.4).
_CHANGE_CIPHER_SPEC = b"\x14\x03\x03\0\x01\x01"


class SlowKeyExchange(ssl.SSLError):
    """The server asks for a key exchange that would take us too long."""

    def __init__(self) -> None:
        super().__init__(ssl.SSL_ERROR_SSL, "the server asks for a finite field")
        self.reason = "KEY_EXCHANGE_OVER_A_FINITE_FIELD"


class Records:
    """One side of one TLS connection.

    Args:
        context: certificates and settings.
        server_side: whether the peer is the client.
        server_hostname: for clients, the name or address that the certificate must be for; goes out as SNI.

    Attributes:
        is_ended: whether the peer has sent its close_notify.

    Raises:
        ValueError: the name is none that TLS could carry.
    """

    __slots__ = ("_answers", "_incoming", "_outgoing", "_piece_bytes", "is_ended", "session")

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.session = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._answers = b""
        self.is_ended = False
        self._piece_bytes = RECORD_BYTES if server_side else _PIECE_BYTES

    def shake(self, received: memoryview) -> bytes | None:
        """Goes on with the handshake as far as that is possible with what has come.

        Returns:
            When it is complete, what came behind it.

        Raises:
            ssl.SSLError: it has failed.
        """
        at = 0
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                if at and self._outgoing.pending and not self.session.server_side:
                    self._refuse_slow_keys()
                if at >= len(received):
                    return None
                self._incoming.write(received[at : at + self._piece_bytes])
                at += self._piece_bytes
            else:
                return self._incoming.read() + received[at:]

    def _refuse_slow_keys(self) -> None:
        """Looks at a second ClientHello, before it goes out: it has a key of the kind that the server wants.

        Raises:
            SlowKeyExchange: of a finite field.
        """
        said = self._outgoing.read()
        try:
            groups = key_groups(said.removeprefix(_CHANGE_CIPHER_SPEC))
        except NotTls:  # something later
            groups = ()
        if any(group in _FINITE_FIELDS for group in groups):
            raise SlowKeyExchange
        self._outgoing.write(said)

    def decrypt(self, received: memoryview) -> tuple[bytes, ssl.SSLError | None]:
        """Decrypts as many records as are whole.

        Returns:
            What they carried, and what was wrong behind it, if anything.
        """
        pieces: list[bytes] = []
        error = None
        for at in range(0, len(received), RECORD_BYTES):
            self._incoming.write(received[at : at + RECORD_BYTES])
            error = self._read(pieces)
            if self._outgoing.pending:
                # A peer that asks for new keys again and again would have the BIO grow.
                self._answers += self._outgoing.read()
            if error is not None or self.is_ended:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), error

    def _read(self, pieces: list[bytes]) -> ssl.SSLError | None:
        """Empties the BIO of what has come; returns what was wrong with it."""
        try:
            # Most calls bring one record, and end without the exception that says that there is no more.
            while self._incoming.pending:
                piece = self.session.read(_MOST_BYTES)
                if not piece:
                    self.is_ended = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            # The rest of a record is still to come.
            pass
        except ssl.SSLError as failure:
            return failure
        return None

    def encrypt(self, content: bytes | bytearray | memoryview) -> bytes | list[bytes]:
        """What to send for this content: in one piece if it fits one record, else in several.

        Raises:
            ssl.SSLError: the connection is in no state for it.
        """
        if len(content) <= RECORD_BYTES:
            self.session.write(content)
            return self._outgoing.read()
        pieces = []
        view = memoryview(content).cast("B")
        for at in range(0, len(view), RECORD_BYTES):
            self.session.write(view[at : at + RECORD_BYTES])
            pieces.append(self._outgoing.read())
        return pieces

    def end(self) -> bytes:
        """What to send last: a close_notify."""
        with suppress(ssl.SSLError):  # it would go on to wait for the peer's
            self.session.unwrap()
        return self._outgoing.read()

    @property
    def unsent(self) -> bytes:
        """Takes what OpenSSL has to say by itself: of the handshake, new keys, alerts."""
        answers, self._answers = self._answers, b""
        return answers + self._outgoing.read() if self._outgoing.pending else answers
