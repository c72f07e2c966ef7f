"""How much of what was written a peer has not taken yet."""

import asyncio
import fcntl
import struct
import termios
from contextlib import suppress


def unsent(transport: asyncio.Transport) -> int:
    """The bytes that wait in our buffer and in the kernel's (SIOCOUTQ, tcp(7)); less of them is progress.

    Our buffer alone would not tell: the kernel takes more from it only when a good part of its own is free.
    """
    waiting = transport.get_write_buffer_size()
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with suppress(OSError):
            waiting += struct.unpack("i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return waiting
