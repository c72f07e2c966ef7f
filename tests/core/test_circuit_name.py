"""Names of circuits taken apart, and put together as those who make them do."""

import pytest

from proxy.core.circuit_name import CircuitName
from proxy.core.scope import endpoint_name
from proxy.core.target import Target

HASH = "0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("api.example.com:443", CircuitName("api.example.com", 443)),
        ("[::1]:80", CircuitName("::1", 80)),
        ("10.0.0.7:8080+internal", CircuitName("10.0.0.7", 8080, is_internal=True)),
        (f"a.test:80#{HASH}", CircuitName("a.test", 80, endpoint=HASH)),
        (f"a.test:80+internal#{HASH}", CircuitName("a.test", 80, is_internal=True, endpoint=HASH)),
    ],
)
def test_there_and_back(text: str, name: CircuitName) -> None:
    assert CircuitName.parse(text) == name
    assert str(name) == text


@pytest.mark.parametrize("is_internal", [False, True])
@pytest.mark.parametrize("host", ["a.test", "::1", "10.0.0.7"])
def test_it_is_how_the_circuits_of_calls_are_named(host: str, *, is_internal: bool) -> None:
    key = Target("http", host, 8080, "/x", "", is_internal).circuit
    assert CircuitName.parse(key) == (host, 8080, is_internal, "")
    assert str(CircuitName.parse(endpoint_name(key, b"/x"))) == endpoint_name(key, b"/x")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("API.Example.com.:443", "api.example.com:443"),
        ("[0:0::1]:80", "[::1]:80"),
        ("[::ffff:10.0.0.7]:80", "10.0.0.7:80"),
    ],
)
def test_a_host_may_be_spelled_in_other_ways(text: str, key: str) -> None:
    assert str(CircuitName.parse(text)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.test",
        "a.test:",
        "a.test:0",
        "a.test:65536",
        ":80",
        "a b:80",
        "a.test\0:80",
        "a/../b:80",
        "::1:80",
        "a.test:80#",
        "a.test:80#xyz",
        f"a.test:80#{HASH.upper()}",
        f"a.test:80#{HASH}0",
        f"a.test:80#{HASH}\n",
        "a.test:80+external",
        "a.test+internal:80",
        "http://a.test:80",
        "a" * 70000 + ":80",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|port|IPv6|authority|hexadecimal") as raised:
        CircuitName.parse(text)
    assert not text or text not in str(raised.value)
