"""What a client says first when it speaks TLS: whom it wants to reach, and what it will speak there.

The hello is read from the bytes that have come so far, in records (RFC 8446 section 5.1) that it may be
spread over. Only what decides over a tunnel is kept: the server name (RFC 6066 section 3) and the protocols
(RFC 7301). What others could read otherwise than we do is refused and not guessed at: a name said twice, a
length that leads elsewhere, a record of another kind in between. Of an Encrypted ClientHello this is the
outer one.

Whoever sends a byte at a time does not make us begin anew with each. The length of the hello stands in its
first four bytes, hence in the first four records at most; as long as fewer bytes are there than a hello of
this length takes at the least, that is all that is looked at. Between the least and the most that it can
take are the headers of MAX_RECORDS records, so that all records are walked over that many bytes more at
most, whatever comes. What is wrong further behind is therefore only found then.
"""

from typing import NamedTuple

from proxy.core.host import normalised

# Of the hello with its records. A post-quantum key share has 1-2 KB, and a hello rarely two of them.
MAX_BYTES = 32 * 1024
# In 64 bytes each, the smallest limit of RFC 8449, half of the above would fit.
MAX_RECORDS = 256

_RECORD_HEADER = 5
_MAX_FRAGMENT = 2**14
_HANDSHAKE_HEADER = 4
# The kind of record, and the half of its version that says anything: the other "MUST be ignored for all
# purposes" (RFC 8446 section 5.1).
_RECORD = b"\x16\x03"
_CLIENT_HELLO = b"\x01"
_MAJOR_VERSION = b"\x03"
_RANDOM = 32
_MAX_SESSION_ID = 32
_SERVER_NAME = 0
_HOST_NAME = 0
_ALPN = 16
_KEY_SHARE = 51


class NotTls(ValueError):
    """What came is no ClientHello, and no more bytes make one of it.

    The text says why, and repeats nothing of what came.
    """


class ClientHello(NamedTuple):
    """What a client wants of the connection that it begins.

    Attributes:
        server_name: the host in the form of `host.normalised`, which CONNECT's has too; None if it names
            none. An address is kept, though RFC 6066 section 3 does not permit it: some clients send it.
        protocols: of ALPN, the most wanted first, a character for each octet; None without the extension.
    """

    server_name: str | None
    protocols: tuple[str, ...] | None


def parse(received: bytes | bytearray) -> ClientHello | None:
    """Reads the hello at the beginning of what a client has sent.

    Args:
        received: all of it so far.

    Returns:
        The hello; None as long as there is too little of it, which is less than MAX_BYTES.

    Raises:
        NotTls: it is none, a malformed one, or one that is longer than MAX_BYTES or in more than MAX_RECORDS.
    """
    message = _whole(received)
    return None if message is None else _wishes(_extensions_of(message))


def key_groups(received: bytes) -> tuple[int, ...]:
    """The groups for which a ClientHello has a key (RFC 8446 section 4.2.8), by their numbers.

    Args:
        received: the whole hello, or the beginning of one, which has none yet.

    Raises:
        NotTls: as `parse`.
    """
    message = _whole(received)
    share = None if message is None else _extensions_of(message).get(_KEY_SHARE)
    if share is None:
        return ()
    fields = _single(_Fields(share))
    groups = []
    while fields:
        groups.append(int.from_bytes(fields.fixed(2)))
        fields.vector(2, least=1)
    return tuple(groups)


def _whole(received: bytes | bytearray) -> bytes | None:
    """The message without its records and what is behind them; None as long as it is not all there."""
    opening = _taken(received, _HANDSHAKE_HEADER).content
    if not _CLIENT_HELLO.startswith(opening[:1]):
        raise NotTls("the handshake does not begin with a ClientHello")
    if len(opening) < _HANDSHAKE_HEADER:
        return None
    size = _HANDSHAKE_HEADER + int.from_bytes(opening[1:])
    least = size + _RECORD_HEADER * -(-size // _MAX_FRAGMENT)
    if least > MAX_BYTES:
        raise NotTls("the ClientHello is too long")
    if len(received) < least:
        return None
    message, behind = _taken(received, size)
    if len(message) < size:
        return None
    # RFC 8446 section 5.1: keys can change behind a ClientHello, so it "MUST" end where a record does.
    if behind:
        raise NotTls("there is more in a record than the end of the ClientHello")
    return message


class _Taken(NamedTuple):
    """Content of records, less than was wanted if no more has come; and how much is behind it in the last."""

    content: bytes
    behind: int


def _taken(received: bytes | bytearray, wanted: int) -> _Taken:
    """Takes the first bytes of the handshake out of the records that they are in."""
    content = bytearray()
    end = 0
    for _ in range(MAX_RECORDS):
        missing = wanted - len(content)
        if end + _RECORD_HEADER + missing > MAX_BYTES:
            raise NotTls("the ClientHello is too long with its records")
        header = bytes(received[end : end + _RECORD_HEADER])
        if not _RECORD.startswith(header[: len(_RECORD)]):
            raise NotTls("there is another thing than a record of a TLS handshake")
        if len(header) < _RECORD_HEADER:
            break
        length = int.from_bytes(header[3:])
        # RFC 8446 section 5.1: "MUST NOT send zero-length fragments of Handshake types".
        if not 1 <= length <= _MAX_FRAGMENT:
            raise NotTls("a record is empty or too long")
        begin = end + _RECORD_HEADER
        end = begin + length
        content += received[begin : begin + min(length, missing)]
        if length >= missing or end > len(received):
            return _Taken(bytes(content), length - missing)
    else:
        raise NotTls("the ClientHello is in too many records")
    return _Taken(bytes(content), 0)


class _Fields:
    """The fields of a structure, one after another (RFC 8446 section 3.4)."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._content)

    def fixed(self, length: int) -> bytes:
        """The next bytes, so many of them."""
        begin, self._at = self._at, self._at + length
        if self._at > len(self._content):
            raise NotTls("the ClientHello ends within a field")
        return self._content[begin : self._at]

    def vector(self, bytes_of_length: int, least: int = 0) -> bytes:
        """The next bytes, as many as the number before them says."""
        content = self.fixed(int.from_bytes(self.fixed(bytes_of_length)))
        if len(content) < least:
            raise NotTls("a field of the ClientHello is too short")
        return content


def _extensions_of(message: bytes) -> dict[int, bytes]:
    """Reads the structure ClientHello of RFC 8446 section 4.1.2, and gives its extensions by their types."""
    hello = _Fields(message[_HANDSHAKE_HEADER:])
    if hello.fixed(2)[:1] != _MAJOR_VERSION:
        raise NotTls("the ClientHello is of an unknown version")
    hello.fixed(_RANDOM)
    if len(hello.vector(1)) > _MAX_SESSION_ID:
        raise NotTls("the session id is too long")
    if len(hello.vector(2, least=2)) % 2:
        raise NotTls("half a cipher suite is missing")
    hello.vector(1, least=1)
    # RFC 5246 section 7.4.1.2: before TLS 1.3 there may be none, not even their length.
    return _extensions(_single(hello)) if hello else {}


def _wishes(extensions: dict[int, bytes]) -> ClientHello:
    """The server name and the protocols."""
    server_name = extensions.get(_SERVER_NAME)
    protocols = extensions.get(_ALPN)
    return ClientHello(
        None if server_name is None else _host_name(server_name),
        None if protocols is None else _protocols(protocols),
    )


def _single(fields: _Fields) -> _Fields:
    """The fields of the list that is all there is."""
    content = fields.vector(2)
    if fields:
        raise NotTls("there is something behind the end of a list")
    return _Fields(content)


def _extensions(fields: _Fields) -> dict[int, bytes]:
    """Reads the extensions by their types (RFC 8446 section 4.2)."""
    extensions: dict[int, bytes] = {}
    while fields:
        kind = int.from_bytes(fields.fixed(2))
        # "There MUST NOT be more than one extension of the same type in a given extension block."
        if kind in extensions:
            raise NotTls("an extension is there twice")
        extensions[kind] = fields.vector(2)
    return extensions


def _host_name(extension: bytes) -> str | None:
    """Reads the ServerNameList of RFC 6066 section 3."""
    fields = _single(_Fields(extension))
    names: dict[int, bytes] = {}
    while True:
        kind = fields.fixed(1)[0]
        # "The ServerNameList MUST NOT contain more than one name of the same name_type."
        if kind in names:
            raise NotTls("there are several server names")
        # Kinds that are not known yet begin with such a length as well.
        names[kind] = fields.vector(2, least=1)
        if not fields:
            break
    if _HOST_NAME not in names:
        return None
    try:
        return normalised(names[_HOST_NAME].decode("latin-1"))
    except ValueError as error:
        raise NotTls(f"the server name is malformed: {error}") from None


def _protocols(extension: bytes) -> tuple[str, ...]:
    """Reads the ProtocolNameList of RFC 7301 section 3.1."""
    fields = _single(_Fields(extension))
    protocols = [fields.vector(1, least=1)]
    while fields:
        protocols.append(fields.vector(1, least=1))
    return tuple(protocol.decode("latin-1") for protocol in protocols)
