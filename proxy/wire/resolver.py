"""Names to addresses, through aiodns.

aiodns is called directly since aiohttp's adapter flattens all of its errors into one: that a name does not
exist says something of the upstream, that a resolver is down or slow does not.
"""

import socket
from collections.abc import Sequence

import aiodns
from aiodns.error import ARES_ENODATA, ARES_ENOTFOUND, ARES_ETIMEOUT, DNSError

from proxy.core.errors import DnsError, DnsTimeout
from proxy.core.outcome import FailureKind, failed

# (family, type, protocol, canonical name, socket address), as socket.getaddrinfo gives them.
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


class Resolver:
    """The process's resolver; make it inside a running loop, and close it.

    Args:
        servers: `host:port` of each name server; none takes those of /etc/resolv.conf.
        timeout_s: for the whole of a look-up; the exchange's own deadline ends the wait earlier.
    """

    def __init__(self, servers: Sequence[str], timeout_s: float) -> None:
        tries = 2
        self._resolver = aiodns.DNSResolver(
            nameservers=list(servers) or None, timeout=timeout_s / tries, tries=tries
        )

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """The addresses of a host, at least one; an IP literal is its own.

        Raises:
            DnsError: 502; the name does not exist (a failure), or the resolver failed (neutral).
            DnsTimeout: 504, neutral.
        """
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host)
            except OSError:
                continue
            return [_address_info(family, host, port)]
        try:
            found = await self._resolver.getaddrinfo(
                host, family=socket.AF_UNSPEC, port=port, type=socket.SOCK_STREAM
            )
        except DNSError as error:
            raise _translated(error) from error
        infos = [_address_info(node.family, node.addr[0].decode("ascii"), port) for node in found.nodes]
        if not infos:
            raise DnsError("the name has no address", outcome=failed(FailureKind.DNS))
        return infos

    async def close(self) -> None:
        """Ends all look-ups and closes the channel's sockets."""
        await self._resolver.close()


def _address_info(family: int, address: str, port: int) -> AddressInfo:
    sockaddr = (address, port, 0, 0) if family == socket.AF_INET6 else (address, port)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr)


def _translated(error: DNSError) -> DnsError | DnsTimeout:
    code = error.args[0] if error.args else None
    if code in (ARES_ENOTFOUND, ARES_ENODATA):
        return DnsError("the name does not exist", outcome=failed(FailureKind.DNS))
    if code == ARES_ETIMEOUT:
        return DnsTimeout("the resolver did not answer in time")
    return DnsError("the resolver failed")
