"""Many networks, to be asked whether an address is in any of them."""

from collections.abc import Iterable

from proxy.core.address import IpAddress, Network


class Networks:
    """The networks of a list, to be searched without looking at each.

    A search takes a look-up for each length of prefix that occurs in the list, however long the list is.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        # By version, and by how many bits stand behind the prefix.
        self._prefixes: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for network in networks:
            behind = network.range.max_prefixlen - network.range.prefixlen
            prefixes = self._prefixes[network.range.version].setdefault(behind, set())
            prefixes.add(int(network.range.network_address) >> behind)

    def __contains__(self, address: IpAddress) -> bool:
        bits = int(address)
        return any(bits >> behind in prefixes for behind, prefixes in self._prefixes[address.version].items())
