"""Where clients connect: aiohttp's servers, and the account of all who are connected."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from proxy.core.budget import TURNED_AWAY
from proxy.core.errors import LocalLimit, ProxyError
from proxy.core.exchange import Exchange
from proxy.core.policy import Limits, Timeouts
from proxy.wire.client import ClientConnection
from proxy.wire.naming import Naming
from proxy.wire.roles import Line

# Content that was not read yet: aiohttp holds twice as much, and one piece more that has come by then.
READ_BUFFER = 16 * 1024
# aiohttp's own timer cannot tell a slow head from an idle client, so the sweep closes both before it.
_OUT_OF_REACH_S = 1e8


class Clients:
    """The connected clients of the process, on all listeners.

    Args:
        line: answers those who are turned away.
        now: monotonic seconds.

    Attributes:
        is_draining: whether each answer is the last one on its connection.
    """

    def __init__(self, line: Line, now: float) -> None:
        self._line = line
        self._all: set[ClientConnection] = set()
        self.now = now
        self.is_draining = False

    def configure(self, limits: Limits, timeouts: Timeouts) -> None:
        """Goes on with these settings; of too many clients the longest idle ones go.

        Args:
            limits: `max_connections`.
            timeouts: `request_head`, `client_idle`, and `body_idle` for last bytes that are not read.
        """
        self._most = limits.max_connections
        self._most_with_surplus = self._most + min(TURNED_AWAY, self._most)
        self._head_s = float(timeouts.request_head)
        self._idle_s = float(timeouts.client_idle)
        self._unread_s = float(timeouts.body_idle)
        surplus = max(0, len(self._all) - self._most)
        for client in sorted((client for client in self._all if client.is_idle), key=_idle_since)[:surplus]:
            client.leave()

    def __len__(self) -> int:
        return len(self._all)

    def joined(self, client: ClientConnection) -> None:
        """Takes a client in; when full, the longest idle one goes, and without any the new one."""
        self._all.add(client)
        if len(self._all) <= self._most:
            return
        idle = [other for other in self._all if other.is_idle and other is not client]
        if idle:
            min(idle, key=_idle_since).leave()
        elif len(self._all) <= self._most_with_surplus:
            self._line.turn_away(
                client,
                LocalLimit("limits.max_connections clients are connected"),
            )
        else:
            # Even those who are told so take a descriptor for a while.
            client.leave()

    def left(self, client: ClientConnection) -> None:
        """Lets go of a client that is gone."""
        self._all.discard(client)

    def resting(self, since: float) -> set[Exchange]:
        """The tunnels in which nothing has been under way since then, in monotonic seconds."""
        exchanges = (client.resting(since) for client in self._all)
        return {exchange for exchange in exchanges if exchange is not None}

    @property
    def are_written_to(self) -> bool:
        """Whether any of them has not taken all that was written."""
        return any(client.is_writing for client in self._all)

    def dismiss(self, error: ProxyError) -> None:
        """Ends the connections without an exchange; those in the middle of a head are told why."""
        for client in tuple(self._all):
            client.dismiss(error)

    @property
    def may_lose_answers(self) -> bool:
        """Whether closing now could lose any of them its last answer."""
        return any(client.may_lose_answer for client in self._all)

    def end_lingering(self) -> None:
        """Closes the connections of those who have their last answer."""
        for client in tuple(self._all):
            client.end_lingering()

    def abort(self) -> None:
        """Ends all connections at once."""
        for client in tuple(self._all):
            client.abort()

    def sweep(self, now: float) -> None:
        """Ends what has taken too long."""
        self.now = now
        for client in tuple(self._all):
            client.sweep(now, head_s=self._head_s, idle_s=self._idle_s, unread_s=self._unread_s)


class Listener(web.Server):
    """Makes a `ClientConnection` for each client.

    Args:
        handle: the line; answers by writing to the transport and returning KEEP or CLOSE.
        line: answers what cannot walk the line.
        clients: keeps account of the connections.
    """

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        line: Line,
        clients: Clients,
    ) -> None:
        # Without handler_cancellation a client's leaving goes unnoticed while an upstream is awaited.
        super().__init__(handle, request_factory=self._make, handler_cancellation=True)
        self._line = line
        self._clients = clients
        self._settings = {
            "loop": asyncio.get_running_loop(),
            "access_log": None,
            "auto_decompress": False,
            # They inherit it from the listening socket, see `vanished.py`.
            "tcp_keepalive": False,
            "keepalive_timeout": _OUT_OF_REACH_S,
            # How long content that is thrown away behind an answer may take to arrive.
            "lingering_time": 2.0,
            "read_bufsize": READ_BUFFER,
        }

    def configure(self, limits: Limits, naming: Naming) -> None:
        """Goes on with these settings for the connections that come; those that stand have their parser.

        Args:
            limits: `max_head` and `max_fields`.
            naming: how targets are named here.
        """
        self._naming = naming
        self._settings |= {
            # One more than a line, since aiohttp's error tells what was too long by its limit alone.
            "max_field_size": int(limits.max_head) + 1,
            "max_headers": limits.max_fields,
            "max_line_size": int(limits.max_head),
        }

    def __call__(self) -> ClientConnection:
        """Makes the protocol of a new connection."""
        return self.connection(self._naming)

    def connection(self, naming: Naming) -> ClientConnection:
        """Makes the protocol of a connection whose targets are named in this way."""
        return ClientConnection(self, self._clients, self._line, naming, **self._settings)

    def _make(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        """Makes a request as aiohttp does, but without the host, which is read from `raw_path` here.

        aiohttp decodes A-labels. At one that cannot be (`xn--a`) it raises where nobody catches it: the
        client would get no answer, and its connection stay for ever.
        """
        if message.url.absolute:
            message = message._replace(url=message.url.relative())
        return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())


def _idle_since(client: ClientConnection) -> float:
    return client.idle_since
