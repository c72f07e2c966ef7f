"""All that other settings need and that can fail or takes long: made first, before anything changes."""

import asyncio
from collections.abc import Callable

from proxy import files
from proxy.core.acl import OwnListeners
from proxy.core.policies import Policies
from proxy.core.policy import Settings
from proxy.wire.data_plane import Provisions
from proxy.wire.resolver import Resolver


async def provided(
    settings: Settings,
    own: OwnListeners,
    clock: Callable[[], float],
    former: Provisions | None,
) -> tuple[Provisions, files.Named]:
    """Makes what the data plane needs, and reads the other files that the settings name.

    Args:
        settings: are to come into force.
        own: our own listeners.
        clock: monotonic seconds.
        former: what is in force; what of it is as it should be is used again. None is nothing yet.

    Raises:
        ConfigError: a file cannot be used. Nothing is left of what was made.
    """
    tls, rules, names, ca = None, None, None, None
    if former is not None:
        tls, rules, names, ca = former.upstream_tls, former.policies, former.resolver, former.leaves
    named = await asyncio.to_thread(files.check, settings, tls)
    reread = named.upstream_tls.reread
    policies = await asyncio.to_thread(Policies, settings, own, former=rules, reread=reread)
    asks = (settings.dns, policies.longest_dns_s)
    if former is not None and asks == (former.settings.dns, former.policies.longest_dns_s):
        resolver = former.resolver
    else:
        resolver = Resolver(*asks, clock, names)
    try:
        # Last, since it writes files.
        leaves = await asyncio.to_thread(files.leaves, settings, ca)
    except BaseException:
        if resolver is not names:
            await resolver.close()
        raise
    return Provisions(settings, policies, resolver, named.upstream_tls, leaves), named
