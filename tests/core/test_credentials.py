"""What is read of the lines, and whom a field lets in."""

import base64
from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from proxy.core import credentials
from proxy.core.credentials import (
    MAX_FAULTS,
    MAX_FIELD_BYTES,
    MAX_TOKENS_OF_A_NAME,
    Credentials,
    Malformed,
    is_name,
    line_of,
)

# As the command makes them: 43 characters of base64url.
CI = "c" * 42 + "-"
OLD, NEW = "old" + "_" * 40, "new" + "-" * 40
FILE = "\n".join(
    ["# clients", "", line_of("ci", CI), line_of("web.1", OLD), "  " + line_of("web.1", NEW) + " \r"]
)
KNOWN = Credentials.parse(FILE.encode())

EXPECTED = "expected NAME:SHA256, as `breaker-proxy token NAME` writes it"
NO_TOKEN = "expected the SHA-256 of a token; this is that of no token"
NOTHING = "expected at least one line NAME:SHA256; see `breaker-proxy token NAME`"
HEX = sha256(b"a").hexdigest()


def basic(given: bytes | str, scheme: bytes = b"Basic ") -> bytes:
    """The value of a field that gives this, whatever it is."""
    return scheme + base64.b64encode(given if isinstance(given, bytes) else given.encode())


# The file.


def test_a_line_is_the_name_and_the_sha_256_of_the_token() -> None:
    assert line_of("ci", "a") == f"ci:{HEX}"


def test_comments_empty_lines_and_blanks_around_are_skipped() -> None:
    assert {name: len(digests) for name, digests in KNOWN.digests.items()} == {b"ci": 2, b"web.1": 2}
    assert KNOWN.tokens == 3


@pytest.mark.parametrize(
    "text",
    [
        f"ci:{HEX}",
        f"ci:{HEX.upper()}\n",
        f"\ufeffci:{HEX}\r\n",
        f"#\udcff\nci:{HEX}",
        f"# ci:0\n\n\t\n ci:{HEX}\t\n\n",
        f"ci:{HEX}\nci:{HEX}",
    ],
)
def test_lines_that_are_right(text: str) -> None:
    read = Credentials.parse(text.encode("utf-8", "surrogateescape"))
    assert read.check([basic("ci:a")]) == "ci"


@pytest.mark.parametrize(
    "line",
    [
        "ci",
        "ci:",
        f":{HEX}",
        HEX,
        f"ci:{HEX[1:]}",
        f"ci:{HEX}0",
        f"ci:{HEX} # mine",
        f"ci: {HEX}",
        f"ci :{HEX}",
        f"c i:{HEX}",
        f"ci:x{HEX[1:]}",
        f"ci::{HEX[1:]}",
        f"ci:{HEX}\0",
        f"ci\0:{HEX}",
        f"cï:{HEX}",
        f"c@i:{HEX}",
        f"-ci:{HEX}",
        f"{'c' * 65}:{HEX}",
        f"ci:{{SHA256}}{HEX}",
        "ci:$apr1$s3cret$s3cret",
    ],
)
def test_a_line_that_is_wrong_is_told_by_its_number(line: str) -> None:
    with pytest.raises(Malformed) as raised:
        Credentials.parse(f"# first\nci:{HEX}\n{line}\n".encode())
    assert raised.value.faults == [(3, EXPECTED)]


@pytest.mark.parametrize("digest", ["0" * 64, sha256().hexdigest()])
def test_the_hash_of_no_token_is_wrong(digest: str) -> None:
    # printf %s "$UNSET" | sha256sum
    with pytest.raises(Malformed) as raised:
        Credentials.parse(f"ci:{digest}".encode())
    assert raised.value.faults == [(1, NO_TOKEN)]


@pytest.mark.parametrize("text", [b"", b"\n\n", b"# nobody\n", b"\xef\xbb\xbf"])
def test_a_text_without_a_token_is_wrong(text: bytes) -> None:
    with pytest.raises(Malformed) as raised:
        Credentials.parse(text)
    assert raised.value.faults == [(None, NOTHING)]


def test_all_faults_are_told_and_none_quotes_the_line() -> None:
    with pytest.raises(Malformed) as raised:
        Credentials.parse(f"s3cret\nci:{HEX}\nci:s3cret\nci:{sha256().hexdigest()}".encode())
    assert raised.value.faults == [(1, EXPECTED), (3, EXPECTED), (4, NO_TOKEN)]
    assert "s3cret" not in str(raised.value)


def test_of_what_is_no_such_file_only_so_many_faults_are_told() -> None:
    with pytest.raises(Malformed) as raised:
        Credentials.parse(b"a\n" * 100_000)
    assert raised.value.faults == [(line, EXPECTED) for line in range(1, MAX_FAULTS + 1)]


def test_a_name_has_only_so_many_tokens() -> None:
    lines = [line_of("ci", str(number)) for number in range(MAX_TOKENS_OF_A_NAME + 1)]
    fits = Credentials.parse("\n".join(lines[:-1]).encode())
    assert [fits.check([basic(f"ci:{number}")]) for number in range(MAX_TOKENS_OF_A_NAME)] == (
        ["ci"] * MAX_TOKENS_OF_A_NAME
    )
    with pytest.raises(Malformed) as raised:
        Credentials.parse("\n".join(lines).encode())
    assert raised.value.faults == [(9, "expected at most 8 tokens of one name")]


@pytest.mark.parametrize("name", ["a", "9", "ci", "Web.1_a~b-c", "c" * 64])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", ".", "-a", "~a", "a:b", "a b", "a\n", "a/b", "a%41", "ä", "c" * 65])
def test_no_names(name: str) -> None:
    assert not is_name(name)


# The field.


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([basic(f"ci:{CI}")], "ci"),
        ([basic(f"web.1:{OLD}")], "web.1"),
        ([basic(f"web.1:{NEW}")], "web.1"),
        # RFC 9110 section 11.1: the scheme in any case, then one space or more.
        ([basic(f"ci:{CI}", b"basic ")], "ci"),
        ([basic(f"ci:{CI}", b"BASIC   ")], "ci"),
        ([b" \t" + basic(f"ci:{CI}") + b"\t "], "ci"),
        # Nobody, or somebody else.
        ([], None),
        ([basic(f"ci:{OLD}")], None),
        ([basic(f"web:{CI}")], None),
        ([basic(f"CI:{CI}")], None),
        ([basic(f"ci :{CI}")], None),
        ([basic(f"ci:{CI} ")], None),
        ([basic(f"ci:{CI}\n")], None),
        ([basic(f"ci:{CI}\0")], None),
        ([basic(f"ci::{CI}")], None),
        ([basic(f"ci:{CI}:")], None),
        ([basic(f"ci:{CI[:-1]}")], None),
        ([basic(f"ci:{sha256(CI.encode()).hexdigest()}")], None),
        ([basic(f"ci{CI}")], None),
        ([basic(f":{CI}")], None),
        ([basic("ci:")], None),
        ([basic(":")], None),
        ([basic("")], None),
        ([basic("nobody:")], None),
        ([basic("nobody:" + CI)], None),
        ([basic(b"\xe4:" + CI.encode())], None),
        ([basic(b"ci:\xff\xfe")], None),
        ([basic(b"ci\xc3:" + CI.encode())], None),
        ([basic(f"ci:{CI}".encode("utf-16"))], None),
        # One field, and of this scheme.
        ([basic(f"ci:{CI}"), basic(f"ci:{CI}")], None),
        ([basic(f"ci:{CI}"), b""], None),
        ([basic("ci:no"), basic(f"ci:{CI}")], None),
        ([basic(f"ci:{CI}") + b", " + basic(f"ci:{CI}")], None),
        ([b""], None),
        ([b"Basic"], None),
        ([b"Basic "], None),
        ([basic(f"ci:{CI}", b"Basic")], None),
        ([basic(f"ci:{CI}", b"Basic\t")], None),
        ([basic(f"ci:{CI}", b"Bearer ")], None),
        ([basic(f"ci:{CI}", b"Digest ")], None),
        ([basic(f"ci:{CI}", b"")], None),
        ([b"Bearer " + CI.encode()], None),
        ([f"Basic ci:{CI}".encode()], None),
    ],
)
def test_whom_a_field_lets_in(values: Sequence[bytes], name: str | None) -> None:
    assert KNOWN.check(values) == name


# Of a length of its own, so that its base64 ends in "=" and in "==".
SHORT = Credentials.parse("\n".join(line_of("a", token) for token in ("12", "123", "1234")).encode())


@pytest.mark.parametrize("right", ["YToxMg==", "YToxMjM=", "YToxMjM0"])
def test_base64_has_one_spelling(right: str) -> None:
    encoded = right.encode()
    assert SHORT.check([b"Basic " + encoded]) == "a"
    bare = encoded.rstrip(b"=")
    wrong = {
        *(bare + b"=" * count for count in range(4)),
        bare + b"====",
        encoded + b"A",
        encoded + encoded,
        b"=" + encoded,
        encoded[:4] + b" " + encoded[4:],
        encoded[:4] + b"\n" + encoded[4:],
        encoded[:4] + b"=" + encoded[4:],
        encoded[:4] + b"-" + encoded[4:],
        encoded + b"\x00",
    } - {encoded}
    assert [spelled for spelled in wrong if SHORT.check([b"Basic " + spelled])] == []


def test_the_last_bits_of_base64_are_zero() -> None:
    # All of these decode to the same bytes.
    spelled = [b"YToxM" + letter + b"==" for letter in (b"g", b"h", b"i", b"v")]
    assert {base64.b64decode(one, validate=True) for one in spelled} == {b"a:12"}
    assert [one for one in spelled if SHORT.check([b"Basic " + one])] == [b"YToxMg=="]


def test_a_token_may_have_colons_and_bytes_of_all_kinds() -> None:
    known = Credentials.parse(f"ci:{sha256('a:b:ü'.encode()).hexdigest()}".encode())
    assert known.check([basic("ci:a:b:ü")]) == "ci"
    assert known.check([basic("ci:a:b:ü".encode("latin-1"))]) is None
    assert known.check([basic("ci:a")]) is None


def test_a_field_has_a_length() -> None:
    def field(blanks: int) -> bytes:
        value = basic(f"ci:{CI}", b"Basic ")
        return value[:6] + b" " * blanks + value[6:]

    room = MAX_FIELD_BYTES - len(field(0))
    assert KNOWN.check([field(room)]) == "ci"
    assert KNOWN.check([field(room + 1)]) is None


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}", fullmatch=True)
TOKENS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60)


@given(known=st.dictionaries(NAMES, st.lists(TOKENS, min_size=1, max_size=8), min_size=1, max_size=5))
def test_every_token_lets_its_owner_in_and_nobody_else(known: dict[str, list[str]]) -> None:
    read = Credentials.parse("\n".join(line_of(n, token) for n in known for token in known[n]).encode())
    assert read.tokens == sum(map(len, known.values()))
    for name, right in known.items():
        for token in {token for tokens in known.values() for token in tokens}:
            assert read.check([basic(f"{name}:{token}")]) == (name if token in right else None)


@given(name=st.binary(max_size=80) | NAMES.map(str.encode), token=st.binary(max_size=80))
@example(name=b"ci", token=CI.encode()[:-1] + b".")
@example(name=b"ci", token=bytes(32))
@example(name=b"nobody", token=b"")
def test_no_other_password_passes(name: bytes, token: bytes) -> None:
    right = {f"ci:{CI}".encode(), f"web.1:{OLD}".encode(), f"web.1:{NEW}".encode()}
    assume(name + b":" + token not in right)
    assert KNOWN.check([basic(name + b":" + token)]) is None


@given(values=st.lists(st.binary(max_size=MAX_FIELD_BYTES + 5), max_size=3))
@example(values=[b"Basic \xff"])
@example(values=[b"Basic ="])
def test_no_other_field_passes_or_raises(values: list[bytes]) -> None:
    assert KNOWN.check(values) is None


@given(text=st.binary(max_size=300).filter(lambda text: any(text.split())))
@example(text=b"ci:\xff")
@example(text=b"\xef\xbb\xbf\x00")
def test_any_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed) as raised:
        Credentials.parse(text)
    assert raised.value.faults


# Time.


@pytest.mark.parametrize(
    "given",
    [
        f"ci:{CI}",
        "ci:wrong",
        f"web.1:{OLD}",
        f"web.1:{NEW}",
        "web.1:wrong",
        "nobody:wrong",
        ":",
        "x:",
        "ci",
        "",
    ],
)
def test_whatever_is_given_as_many_comparisons_are_made(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a check does depends on nothing but the length of the field."""
    done: list[str] = []

    def counted(name: str, call: Any) -> Any:
        def counting(*arguments: Any) -> Any:
            done.append(name)
            return call(*arguments)

        return counting

    monkeypatch.setattr(credentials, "compare_digest", counted("compare", compare_digest))
    monkeypatch.setattr(credentials, "sha256", counted("hash", sha256))
    KNOWN.check([basic(given)])
    assert done == ["hash", "compare", "compare"]
