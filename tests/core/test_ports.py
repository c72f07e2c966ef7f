import pytest

from proxy.core.ports import ANY_PORT, Ports


@pytest.mark.parametrize(
    ("written", "inside", "outside", "shown"),
    [
        ("any", [1, 443, 65535], [], "any"),
        ([443], [443], [442, 444, 1, 65535], "443"),
        (["443"], [443], [442, 444], "443"),
        ([443, "8000-8999"], [443, 8000, 8500, 8999], [442, 444, 7999, 9000], "443, 8000-8999"),
        (["1-65535"], [1, 65535], [], "1-65535"),
        (["80-80"], [80], [79, 81], "80"),
        (["0443"], [443], [442, 444], "443"),
        ((80, 443), [80, 443], [81], "80, 443"),
        ([], [], [1, 443, 65535], "none"),
    ],
)
def test_which_ports(written: object, inside: list[int], outside: list[int], shown: str) -> None:
    ports = Ports.parse(written)
    assert all(port in ports for port in inside)
    assert not any(port in ports for port in outside)
    assert str(ports) == shown


def test_any_port() -> None:
    assert Ports.parse("any") == ANY_PORT == Ports()


@pytest.mark.parametrize("written", ["", "443", "Any", "none", 443, None, True, {443: 443}])
def test_what_is_no_list_of_ports(written: object) -> None:
    with pytest.raises(ValueError, match=r"expected any, or a list such as \[443, 8000-8999\], got "):
        Ports.parse(written)


@pytest.mark.parametrize(
    "item",
    [
        *(0, -1, 65536, 443.0, None, True, [443]),
        *(
            "",
            "any",
            "0",
            "65536",
            "443-",
            "-443",
            "444-443",
            "1-65536",
            "0-1",
            "1-2-3",
            "4 43",
            "443\n",
            "+443",
        ),
        *("\u0664\u0664\u0663", "000443"),
    ],
)
def test_what_is_no_port(item: object) -> None:
    with pytest.raises(ValueError, match="expected a port such as 443 or a range such as 8000-8999, got "):
        Ports.parse([443, item])


def test_what_was_written_is_told_in_part() -> None:
    with pytest.raises(ValueError, match=r"got '9{59}$"):
        Ports.parse(["9" * 100])
