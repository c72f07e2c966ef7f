"""Who may use the proxy: names with tokens, and the field by which a client gives them (RFC 7617).

A token is 32 random bytes, so that its bare SHA-256 tells nothing of it: there is no need for salt or a slow
hash, which would let strangers keep the process busy. A name may have several tokens, so that a new one can
be handed out before the old one is withdrawn.

How long a check takes tells neither which names exist nor how many tokens one has: whatever the name, there
are as many comparisons as the name with the most tokens needs. A check costs one hash of at most
`MAX_FIELD_BYTES`, and nothing is kept of it: who is wrong for ever fills nothing.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

# Far more than a name, a colon and a token in base64 take.
MAX_FIELD_BYTES = 512
# Each check makes so many comparisons at most; a rotation needs two.
MAX_TOKENS_OF_A_NAME = 8
# What is told of a file that is no list of credentials at all.
MAX_FAULTS = 20

# What needs no escape in a URL (RFC 3986 section 2.3), and does not look like an option.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}")
NAME_NOUN = "a letter or digit, then up to 63 letters, digits, '.', '_', '~' or '-'"
_LINE = re.compile(rb"(" + _NAME.pattern.encode() + rb"):([0-9A-Fa-f]{64})")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# No SHA-256 of anything that anybody knows; it stands where there is no token to compare with.
_NO_DIGEST = bytes(sha256().digest_size)
_OF_NOTHING = sha256().digest()
# RFC 9110 sections 5.6.3 and 11.1.
_OWS = b" \t"
_SCHEME = b"basic"


class Malformed(Exception):
    """A text that is no list of credentials.

    Attributes:
        faults: the first `MAX_FAULTS`, each with its line, from 1, or None for the whole. None quotes the
            text: a token may have been written where its hash belongs.
    """

    def __init__(self, faults: list[tuple[int | None, str]]) -> None:
        super().__init__("; ".join(message for _, message in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Credentials:
    """All names with the SHA-256 of their tokens.

    Attributes:
        digests: by name, of all names equally many: `_NO_DIGEST` fills up.
        nobodys: as many of that, for the names that do not exist.
        tokens: how many there are in all.
    """

    digests: dict[bytes, tuple[bytes, ...]]
    nobodys: tuple[bytes, ...]
    tokens: int

    @classmethod
    def parse(cls, text: bytes) -> "Credentials":
        """Reads lines `name:sha256hex`; empty ones, and those that begin with `#`, are skipped.

        Raises:
            Malformed: with the faults. A text without a token is one: it would lock everybody out, and is
                what a file looks like that is just being written.
        """
        found: dict[bytes, list[bytes]] = {}
        faults: list[tuple[int | None, str]] = []
        for number, line in _lines(text):
            if len(faults) == MAX_FAULTS:
                break
            read = _LINE.fullmatch(line)
            if read is None:
                faults.append((number, "expected NAME:SHA256, as `breaker-proxy token NAME` writes it"))
                continue
            digests = found.setdefault(read[1], [])
            digests.append(bytes.fromhex(read[2].decode("ascii")))
            if digests[-1] in (_NO_DIGEST, _OF_NOTHING):
                faults.append((number, "expected the SHA-256 of a token; this is that of no token"))
            elif len(digests) > MAX_TOKENS_OF_A_NAME:
                faults.append((number, f"expected at most {MAX_TOKENS_OF_A_NAME} tokens of one name"))
        if not found and not faults:
            faults.append((None, "expected at least one line NAME:SHA256; see `breaker-proxy token NAME`"))
        if faults:
            raise Malformed(faults)
        most = max(map(len, found.values()))
        filled = {name: (*all_, *[_NO_DIGEST] * (most - len(all_))) for name, all_ in found.items()}
        return cls(filled, (_NO_DIGEST,) * most, sum(map(len, found.values())))

    def check(self, values: Sequence[bytes]) -> str | None:
        """Whose token it is.

        Args:
            values: of all `Proxy-Authorization` fields of the request.

        Returns:
            The name, or None: there is no field, or not exactly one, or it is not Basic, or malformed, or no
            token of that name is the password.
        """
        if len(values) != 1 or len(values[0]) > MAX_FIELD_BYTES:
            return None
        scheme, _, encoded = values[0].strip(_OWS).partition(b" ")
        if scheme.lower() != _SCHEME:
            return None
        # RFC 7617 section 2: the first colon ends the user-id, the password may have more of them. Without
        # one the token is empty, which is nobody's.
        name, _, token = _decoded(encoded.lstrip(b" ")).partition(b":")
        digest = sha256(token).digest()
        is_right = False
        for expected in self.digests.get(name, self.nobodys):
            # Not any(): it would stop at the first that fits.
            is_right |= compare_digest(digest, expected)
        return name.decode("ascii") if is_right else None


# Lets nobody in.
NOBODYS = Credentials({}, (_NO_DIGEST,), 0)


def is_name(text: str) -> bool:
    """Whether this can be the name of a token's owner."""
    return _NAME.fullmatch(text) is not None


def line_of(name: str, token: str) -> str:
    """The line of a token in the file, without its end."""
    return f"{name}:{sha256(token.encode('ascii')).hexdigest()}"


def _lines(text: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(text.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith(b"#"):
            yield number, stripped


def _decoded(encoded: bytes) -> bytes:
    """Base64 as its encoder writes it (RFC 4648 section 4), else nothing."""
    try:
        decoded = b64decode(encoded, validate=True)
    except binascii.Error:
        return b""
    # What is left of the last character has to be zero (section 3.5): one text, one spelling.
    return decoded if b64encode(decoded) == encoded else b""
