"""The TLS contexts that clients are shown, kept by host, and made off the event loop.

A minting takes about a millisecond, so it runs in a thread of its own; what several connections wait for is
made once. What nobody waits for any more is not made, so that there are never more of them to be made than
connections that wait.

This module needs the extra `intercept` (cryptography) and must not be imported unless TLS is intercepted.
"""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from proxy.core.budget import MOST_LEAVES, MOST_SESSIONS
from proxy.wire.certificate_authority import Authority
from proxy.wire.mint import Leaf, LeafFault, Mint

# After so many contexts were asked for, their sessions are counted.
SWEEP_AFTER = 256


@dataclass(slots=True)
class _Minting:
    future: asyncio.Future[Leaf]
    waiting: int = 0


class Leaves:
    """Server-side TLS contexts by host; for one event loop.

    Args:
        authority: which signs, and stays.
        now: the time, with a time zone.
        most: how many contexts are kept; the least recently used goes.
    """

    def __init__(self, authority: Authority, now: Callable[[], datetime], most: int = MOST_LEAVES) -> None:
        self.authority = authority
        self._mint = Mint(authority)
        self._now = now
        self._most = most
        self._leaves: OrderedDict[str, Leaf] = OrderedDict()
        self._mintings: dict[str, _Minting] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="leaves")
        self._asked = 0

    def __len__(self) -> int:
        """How many contexts are kept."""
        return len(self._leaves)

    @property
    def minting(self) -> int:
        """How many are being made, or are waiting for it."""
        return len(self._mintings)

    async def context(self, host: str) -> ssl.SSLContext:
        """What a client that calls this host is to be shown.

        Args:
            host: a name or an address, as `normalised` gives it.

        Raises:
            LeafFault: it cannot be made, or `close` was called; the next call tries again.
        """
        self._asked += 1
        if self._asked >= SWEEP_AFTER:
            self._sweep()
        leaf = self._leaves.get(host)
        # It has not begun if the clock was put back.
        if leaf is None or not leaf.begins <= self._now() < leaf.replace_at:
            leaf = await self._minted(host)
        else:
            self._leaves.move_to_end(host)
        return leaf.context

    def close(self) -> None:
        """Ends the thread; what is still waited for fails."""
        self._executor.shutdown(cancel_futures=True)
        self._leaves.clear()

    async def _minted(self, host: str) -> Leaf:
        minting = self._mintings.get(host) or self._begin(host)
        minting.waiting += 1
        try:
            # Unlike an await of the future itself, this does not cancel it for the others.
            await asyncio.wait([minting.future])
        finally:
            minting.waiting -= 1
            if not minting.waiting and not minting.future.done():
                self._forget(host, minting)
                minting.future.cancel()
        if minting.future.cancelled():
            raise LeafFault("the proxy is stopping")
        return minting.future.result()

    def _begin(self, host: str) -> _Minting:
        loop = asyncio.get_running_loop()
        try:
            minting = _Minting(loop.run_in_executor(self._executor, self._mint.leaf, host, self._now()))
        except RuntimeError as error:
            raise LeafFault("the proxy is stopping") from error
        minting.future.add_done_callback(partial(self._end, host, minting))
        self._mintings[host] = minting
        return minting

    def _end(self, host: str, minting: _Minting, future: asyncio.Future[Leaf]) -> None:
        self._forget(host, minting)
        # An exception that is looked at here is none that was never retrieved.
        if future.cancelled() or future.exception() is not None:
            return
        self._leaves[host] = future.result()
        self._leaves.move_to_end(host)
        if len(self._leaves) > self._most:
            self._leaves.popitem(last=False)

    def _forget(self, host: str, minting: _Minting) -> None:
        if self._mintings.get(host) is minting:
            del self._mintings[host]

    def _sweep(self) -> None:
        """Lets go of contexts that have come to remember many sessions.

        A client of TLS 1.2 that takes no tickets is remembered by OpenSSL (1 KiB) in its context when it has
        closed the connection in order, up to 20480 of them. Python has no way to turn that off. All contexts
        are looked at, since a peer can fill one after another.
        """
        self._asked = 0
        full = [
            host
            for host, leaf in self._leaves.items()
            if leaf.context.session_stats()["number"] > MOST_SESSIONS
        ]
        for host in full:
            del self._leaves[host]
