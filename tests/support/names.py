"""A resolver that asks the test's own servers, and is closed behind it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from aiodns import DNSResolver
from aiodns.error import DNSError

from proxy.core.policy import Dns, Endpoint, Search
from proxy.core.quantities import Seconds
from proxy.wire.resolver import Resolver
from support.dns import DnsServer


@asynccontextmanager
async def resolving(
    *servers: DnsServer | Endpoint,
    timeout_s: float = 20,
    clock: Callable[[], float] = time.monotonic,
    search: Search = Search.AUTO,
    **seconds: float,
) -> AsyncIterator[Resolver]:
    """A resolver; `seconds` are those of `dns:`, such as `negative`."""
    asked = tuple(one.endpoint if isinstance(one, DnsServer) else one for one in servers)
    settings = Dns(servers=asked, search=search, **{key: Seconds(value) for key, value in seconds.items()})
    resolver = Resolver(settings, timeout_s, clock)
    try:
        yield resolver
    finally:
        await resolver.close()
        # What c-ares has ended is still on its way back to the loop.
        while resolver.under_way:
            await asyncio.sleep(0)


async def forgotten(server: DnsServer, resolver: Resolver) -> None:
    """Waits until c-ares has emptied its own cache, which it does in a thread after each query.

    In the product the next query for a name comes after seconds; where the test moves the clock, at once.
    """
    for channel in resolver._servers._channels:  # noqa: SLF001 -- nobody else need know of it

        async def asked(channel: DNSResolver = channel) -> int:
            with suppress(DNSError):
                await channel.getaddrinfo("probe.test")
            return len(server.asked)

        # From here on it is in the cache, so that the server is asked again only once that is empty.
        before = await asked()
        channel.forget()
        while await asked() == before:
            pass
