"""What the first bytes in a tunnel are: TLS, a request of HTTP/1, or something that is only carried.

A tunnel's permit settles on them. Either answer is given at the first byte that settles it, since whoever
speaks another protocol may be waiting for a reply. Once given, no further bytes change it.

A line is looked at anew with each byte that comes; MAX_LINE_BYTES bounds what that costs.
"""

import re
from enum import Enum
from typing import Literal

# RFC 9112 section 3 recommends 8000 octets at least. What is longer is carried unseen, not refused.
MAX_LINE_BYTES = 8192
# The longest registered method has 17 letters. No other token (SSH-2.0-...) should wait for many more.
_MAX_METHOD_BYTES = 32

_TLS = b"\x16\x03"
# RFC 9112 section 3. The target is any octets that end no field of the line: what is wrong with it is said
# to the client by those who read requests. Empty lines may come first (section 2.2), a bare LF may end one.
_EMPTY_LINES = rb"(?:\r?\n)*+"
_METHOD = rb"[!#$%%&'*+.^_`|~0-9A-Za-z-]{1,%d}+" % _MAX_METHOD_BYTES
_TARGET = rb"[!-~\x80-\xff]"
_UP_TO_VERSION = re.compile(rb"%s%s %s++ " % (_EMPTY_LINES, _METHOD, _TARGET))
_LESS = re.compile(rb"%s(?:\r|%s(?: %s*+)?)?" % (_EMPTY_LINES, _METHOD, _TARGET))
_ENDS = (b"HTTP/1.1\r\n", b"HTTP/1.0\r\n", b"HTTP/1.1\n", b"HTTP/1.0\n")

# RFC 8446 section 6, and what only older versions send (RFC 5246 section 7.2, RFC 2246 section 7.2).
ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
    121: "ech_required",
}
# A record of an alert in the clear: any version from SSL 3.0 on, two bytes long, the level 2.
ALERT_BYTES = 7
_FATAL_ALERT = re.compile(rb"\x15(?:\x03(?:[\x00-\x04](?:\x00(?:\x02(?:\x02.?)?)?)?)?)?", re.DOTALL)


class Kind(Enum):
    """What a client says first inside its tunnel."""

    UNDECIDED = "undecided"
    TLS = "tls"
    HTTP = "http"
    OTHER = "other"

    __hash__ = object.__hash__


def kind(received: bytes | bytearray, max_head: int) -> Kind:
    """Tells TLS and HTTP/1.x from everything else.

    Args:
        received: all that the client has sent inside the tunnel so far.
        max_head: bytes that the request line may have, with the empty lines before it; not more than
            MAX_LINE_BYTES count. A longer one is of no kind of ours.
    """
    begin = bytes(received[: len(_TLS)])
    if _TLS.startswith(begin):
        return Kind.TLS if begin == _TLS else Kind.UNDECIDED
    most = min(max_head, MAX_LINE_BYTES)
    line = bytes(received[:most])
    verdict = _request_line(line)
    return Kind.OTHER if verdict is Kind.UNDECIDED and len(line) == most else verdict


def _request_line(line: bytes) -> Kind:
    before = _UP_TO_VERSION.match(line)
    if before is None:
        return Kind.UNDECIDED if _LESS.fullmatch(line) else Kind.OTHER
    version = line[before.end() :]
    if version.startswith(_ENDS):
        return Kind.HTTP
    return Kind.UNDECIDED if any(end.startswith(version) for end in _ENDS) else Kind.OTHER


def fatal_alert(received: bytes | bytearray) -> int | Literal[Kind.UNDECIDED] | None:
    """Tells whether the first thing that an upstream says is that it will not speak TLS with this client.

    Args:
        received: all that the upstream has sent so far.

    Returns:
        The description of the alert, 0-255, which ALERTS names (`alert_name`); None if the upstream says
        something else, a warning included; UNDECIDED as long as it could become such an alert.
    """
    record = bytes(received[:ALERT_BYTES])
    if record and not _FATAL_ALERT.fullmatch(record):
        return None
    return record[-1] if len(record) == ALERT_BYTES else Kind.UNDECIDED


def alert_name(description: int) -> str:
    """The name of an alert for logs, such as `unknown_ca`; `alert_42` stands for one without a name."""
    return ALERTS.get(description, f"alert_{description}")
