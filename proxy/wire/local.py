"""Which addresses are this machine's own."""

import errno
import socket
from ipaddress import IPv4Address, IPv6Address


def is_local(address: IPv4Address | IPv6Address) -> bool:
    """Whether a connection to an address ends on this machine (in Kubernetes: in this Pod).

    The kernel says so: a socket can be bound to such addresses alone, the unspecified ones included. Where it
    cannot be asked, as no descriptor is left, the answer is yes, and always so where the kernel may bind
    sockets to any address (`net.ipv4.ip_nonlocal_bind`).
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 -- IP's versions
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True
