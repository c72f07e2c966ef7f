"""How the process comes to its end: it waits until nothing would be lost by that, and then ends what is left.

While it waits, all is served as before. Only each answer is the last one on its connection, and says so: a
client that keeps its connection would otherwise send its next request just when that is closed, and could not
tell whether it was carried out. Connections on which nothing comes stay open until the end, for that reason.

At the end what has come is answered, and no more is read. So a connection that was closed without an answer
is one of which no byte of that request was read, unless the request is behind one whose answer said `close`
(RFC 9112 section 9.6: then it was not processed either).
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from proxy.core.errors import Draining
from proxy.core.policy import Drain
from proxy.wire.deadlines import Deadlines
from proxy.wire.handler import Handler
from proxy.wire.listener import Clients

# After so long without a byte either way nothing is under way in a tunnel, as far as anybody can see.
IDLE_AFTER_S = 1.0
# How long exchanges that are ended have to write their last answer, and their clients to read it.
LAST_WORDS_S = 1.0
# How often it is looked whether there is anything left to wait for.
_TICK_S = 0.05
_LAST_TICK_S = 0.005
# After so many turns of the loop a request that had arrived is answered: its connection is made and read, its
# task woken, and its exchange begun. That takes half of them.
_TURNS = 16


async def drained(handler: Handler, clients: Clients, settings: Drain, clock: Callable[[], float]) -> None:
    """Waits until nothing is under way and no exchange has ended for `drain.quiet`, or for `drain.timeout`.

    Requests that are refused do not count, nor do tunnels that are idle. Last bytes do that a client has not
    taken yet. `quiet` begins with the end of an exchange and not with its beginning: who has waited for that
    answer is the one who sends the next request.
    """
    clients.is_draining = True
    now = quiet_since = clock()
    deadline = now + settings.timeout
    carried = handler.carried
    while now < deadline:
        if handler.carried != carried:
            carried = handler.carried
            quiet_since = now
        is_busy = handler.in_flight > len(clients.resting(now - IDLE_AFTER_S)) or clients.are_written_to
        # What is under way is looked at first, since `quiet` may be 0.
        if not is_busy and now - quiet_since >= settings.quiet:
            return
        await asyncio.sleep(_TICK_S)
        now = clock()


async def ended(
    servers: Iterable[asyncio.Server], handler: Handler, clients: Clients, deadlines: Deadlines, now: float
) -> int:
    """Ends everything: what has no answer yet gets 503 `draining`, what has begun is cut.

    Takes hardly more than LAST_WORDS_S; `now` is monotonic seconds.

    Returns:
        How many tunnels it has cut in which nothing was under way.
    """
    clients.is_draining = handler.is_stopping = True
    resting = clients.resting(now - IDLE_AFTER_S)
    idle = Draining("the tunnel was idle when the proxy ended")
    idle.was_idle = True
    deadlines.fail(resting, idle)
    draining = Draining("the proxy is shutting down")
    deadlines.fail_all(draining)
    # First those who have connected are let in: the kernel resets them when their listener is closed.
    await _turns()
    for server in servers:
        server.close()
    await _turns()
    clients.dismiss(draining)
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS_S):
            while True:
                if not handler.in_flight and not clients.may_lose_answers:
                    break
                await asyncio.sleep(_LAST_TICK_S)
    clients.end_lingering()
    await _turns()
    clients.abort()
    return len(resting)


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
