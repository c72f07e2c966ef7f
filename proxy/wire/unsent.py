"""How much of what was written a peer has not taken yet, and how much of that may wait with us."""

import asyncio
import fcntl
import struct
import termios
from contextlib import suppress

# Beyond this whoever writes is told to stop. A loop has 64 KiB, which costs as much again for each slow peer
# and makes nothing faster: what is read at once (`reading.py`) goes out in one piece all the same.
_MOST_WAITING = 16 * 1024


def keep_little(transport: asyncio.Transport) -> None:
    """Says how much may wait in our buffer before the writer has to."""
    transport.set_write_buffer_limits(_MOST_WAITING)


def is_writing(*transports: asyncio.Transport | None) -> bool:
    """Whether anything waits in our buffers; the kernel's are sent even when the process has ended."""
    return any(transport is not None and transport.get_write_buffer_size() for transport in transports)


def unsent(transport: asyncio.Transport | None) -> int:
    """The bytes that wait in our buffer and in the kernel's (SIOCOUTQ, tcp(7)); less of them is progress.

    Our buffer alone would not tell: the kernel takes more from it only when a good part of its own is free.
    """
    if transport is None:
        return 0
    waiting = transport.get_write_buffer_size()
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with suppress(OSError):
            waiting += struct.unpack("i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return waiting
