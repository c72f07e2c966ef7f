"""What a circuit is for, and the names of endpoints."""

import subprocess

import pytest

from proxy.core.scope import BY_HOST, By, CircuitKey

HOST = "hooks.example.com:443"


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("host", BY_HOST),
        ("path", CircuitKey(By.PATH)),
        ("path:2", CircuitKey(By.PATH, segments=2)),
        ("header:X-Tenant", CircuitKey(By.HEADER, header="x-tenant")),
    ],
)
def test_the_forms_of_the_setting(written: str, key: CircuitKey) -> None:
    assert CircuitKey.parse(written) == key
    assert str(key) == written.lower()


@pytest.mark.parametrize(
    "written",
    ["", "hosts", "host:1", "path:0", "path:x", "path:100", "header", "header:", "header:a b", 3, None],
)
def test_what_is_no_form_of_it(written: object) -> None:
    with pytest.raises(ValueError, match="expected host, path"):
        CircuitKey.parse(written)


def test_a_host_has_no_endpoints_unless_something_tells_them_apart() -> None:
    assert BY_HOST.endpoint(HOST, "/a", []) is None


def test_the_query_does_not_tell_endpoints_apart() -> None:
    key = CircuitKey.parse("path")
    assert key.endpoint(HOST, "/hooks/1?token=secret", []) == key.endpoint(HOST, "/hooks/1", [])
    assert key.endpoint(HOST, "/hooks/1", []) != key.endpoint(HOST, "/hooks/2", [])


@pytest.mark.parametrize(
    ("path", "same_as"),
    [("/a/b/c", "/a/b"), ("/a/b", "/a/b"), ("/a/b/", "/a/b"), ("/a", "/a"), ("/a/", "/a/"), ("*", "*")],
)
def test_only_the_first_segments_count(path: str, same_as: str) -> None:
    first_two, whole = CircuitKey.parse("path:2"), CircuitKey.parse("path")
    assert first_two.endpoint(HOST, path, []) == whole.endpoint(HOST, same_as, [])


@pytest.mark.parametrize(
    ("fields", "has_endpoint"),
    [
        ([(b"X-TENANT", b"a")], True),
        ([(b"Other", b"a")], False),
        ([(b"X-Tenant", b"a"), (b"x-tenant", b"a")], False),
        ([(b"X-Tenant", b"")], False),
    ],
)
def test_a_field_tells_an_endpoint_if_it_stands_there_once(
    fields: list[tuple[bytes, bytes]], *, has_endpoint: bool
) -> None:
    endpoint = CircuitKey.parse("header:x-tenant").endpoint(HOST, "/", fields)
    assert (endpoint is not None) is has_endpoint


def test_the_name_can_be_computed_on_the_command_line() -> None:
    out = subprocess.run(["b2sum", "--length", "64"], input=b"/hooks/42", capture_output=True, check=True)
    name = f"{HOST}#{out.stdout.split()[0].decode()}"
    assert CircuitKey.parse("path").endpoint(HOST, "/hooks/42", []) == name
