"""Writes the tables of docs/egress.md anew, from the rows by which the guard itself decides: `make classes`.

What stands between the two marks of a table is made here; all else on the page is written by hand.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

from proxy.core.acl import Acl
from proxy.core.address import CARRIERS, TABLE, AddressClass
from proxy.core.egress import AllowedAddresses, Egress

PAGE = Path(__file__).parent / "egress.md"

WHY = {
    AddressClass.PUBLIC: "what dispatchers are for; nobody else can use such an address inside",
    AddressClass.LOOPBACK: "this machine or Pod: admin ports, agents, databases that trust whoever is local",
    AddressClass.PRIVATE: "your own network, and those of others to which you are joined",
    AddressClass.SHARED: "a provider's or a cloud's inside; some clusters number their Pods from it",
    AddressClass.LINK_LOCAL: "the next machine or router, and the services of a cloud",
    AddressClass.METADATA: "hands out credentials to whoever asks from this machine",
    AddressClass.MULTICAST: "no TCP there",
    AddressClass.UNSPECIFIED: "Linux connects it to this machine",
    AddressClass.RESERVED: "nobody has it on the internet, so whatever answers there is inside",
}
# Any address that no row has.
_PUBLIC = IPv4Address("8.8.8.8")


def tables() -> dict[str, str]:
    """Each table by its name."""
    return {"classes": _classes(), "ranges": _ranges(), "carriers": _carriers()}


def page(text: str) -> str:
    """The page with its tables made anew.

    Args:
        text: the page as it was.

    Raises:
        ValueError: it has not exactly one place for each table.
    """
    for name, table in tables().items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->\n)", re.DOTALL)
        text, count = marks.subn(lambda found, table=table: found[1] + table + found[2], text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"{count} places for the table {name}")
    return text


def _classes() -> str:
    rules = [Acl(Egress(addresses=addresses)) for addresses in AllowedAddresses]
    sample = {kind: network.network_address for network, kind, _ in reversed(TABLE)}
    lines = []
    for kind in AddressClass:
        address = str(_PUBLIC if kind is AddressClass.PUBLIC else sample[kind])
        called = ["yes" if acl.vet(address, 80) is None else "no" for acl in rules]
        lines.append((_named(kind), *called, WHY[kind]))
    return _table(("class", *(f"`{addresses.value}`" for addresses in AllowedAddresses), "why"), lines)


def _ranges() -> str:
    lines = [(f"`{_short(network)}`", _named(kind), what) for network, kind, what in TABLE]
    return _table(("range", "class", "what it is"), lines)


def _carriers() -> str:
    whats: dict[str, list[str]] = {}
    for network, _, _, what in CARRIERS:
        whats.setdefault(str(network), []).append(what)
    return _table(
        ("range", "what carries an IPv4 address"), [(f"`{n}`", "; ".join(what)) for n, what in whats.items()]
    )


def _named(kind: AddressClass) -> str:
    return kind.value.replace("_", "-")


def _short(network: IPv4Network | IPv6Network) -> str:
    """A single address without its length."""
    return str(network.network_address if network.num_addresses == 1 else network)


def _table(head: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    rows = [f"| {' | '.join(row)} |\n" for row in (head, *lines)]
    return "".join([rows[0], "|---" * len(head) + "|\n", *rows[1:]])


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
