"""A client under test beside the proxy that it finds in its environment."""

from dataclasses import dataclass
from pathlib import Path

from support.process import Reply, RunningProxy
from system.adapters import Ask, Client, environment
from system.kinds import Kind

# A name of loopback that clients do not know. Go and Java call loopback without a proxy where they know it.
HOST = "hooks.test"


@dataclass(frozen=True)
class Caller:
    """A client and its proxy.

    Attributes:
        kind: what the client is able to.
        client: one that lives as long as the proxy.
        folder: for its files.
    """

    kind: Kind
    client: Client
    proxy: RunningProxy
    folder: Path

    def once(self, ask: Ask) -> Reply:
        """One call, whose tunnel, if it has one, ends with it."""
        if not self.kind.tunnels:
            return self.client(ask)[0]
        with self.kind.start(self.folder, environment(self.proxy.url)) as client:
            return client(ask)[0]
