"""How much is read at once: with a loop's own 256 KiB, a few hundred slow peers would take much memory."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress

READ_SIZE = 64 * 1024
# All connections read into one buffer, since what was read is copied out of it at once.
_BUFFER = memoryview(bytearray(READ_SIZE))


def shared(nbytes: int) -> memoryview:
    """What has just been read; only good until the loop reads again, so within the call that tells of it."""
    return _BUFFER[:nbytes]


def what_waits(transport: asyncio.Transport) -> Iterator[bytes]:
    """What still waits in the socket of a connection that has broken; the loop would forget it.

    An upstream that refuses an upload answers and closes; our next write then breaks the connection before
    the answer is read.
    """
    raw = transport.get_extra_info("socket")
    if raw is None or raw.fileno() < 0:
        return
    with suppress(OSError):
        while received := os.read(raw.fileno(), READ_SIZE):
            yield received


class ReadsLittle(asyncio.BufferedProtocol):
    """A protocol that takes `bytes`, and never more than READ_SIZE of them at once."""

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- as asyncio has it
        """Where the loop puts what it reads."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Takes what has been read."""
        self.data_received(bytes(_BUFFER[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Takes what has arrived."""
        raise NotImplementedError


class Door(asyncio.BufferedProtocol):
    """Stands before a protocol that reads as much as comes, as aiohttp's does.

    Args:
        inside: is told all that happens.
    """

    __slots__ = ("_inside",)

    def __init__(self, inside: asyncio.Protocol) -> None:
        self._inside = inside

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- as asyncio has it
        """Where the loop puts what it reads."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Hands in what has been read."""
        self._inside.data_received(bytes(_BUFFER[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Hands in what has been decrypted."""
        self._inside.data_received(data)

    def eof_received(self) -> bool | None:
        """The peer has closed its side."""
        return self._inside.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._inside.connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write."""
        self._inside.pause_writing()

    def resume_writing(self) -> None:
        """The peer has taken most of what we wrote."""
        self._inside.resume_writing()
