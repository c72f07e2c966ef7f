"""A client under test beside the proxy that it finds in its environment."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.process import Reply, RunningProxy
from system.adapters import Ask, Client, environment
from system.kinds import Kind

# A name of loopback that clients do not know. Go and Java call loopback without a proxy where they know it.
HOST = "hooks.test"


def host_of(name: str) -> str:
    """A host that this client alone calls."""
    return f"{name}.test"


@dataclass(frozen=True)
class Caller:
    """A client and its proxy.

    Attributes:
        kind: what the client is able to.
        client: one that lives as long as the proxy.
        folder: for its files.
        environ: what its processes find in theirs.
    """

    kind: Kind
    client: Client
    proxy: RunningProxy
    folder: Path
    environ: Mapping[str, str]

    def once(self, ask: Ask) -> Reply:
        """One call for http://, whose tunnel, if it has one, ends with it."""
        return self.afresh(ask) if self.kind.tunnels else self.client(ask)[0]

    def afresh(self, ask: Ask) -> Reply:
        """One call, whose connection ends with it."""
        with self.kind.start(self.folder, self.environ) as client:
            return client(ask)[0]


@contextmanager
def calling(kind: Kind, proxy: RunningProxy, folder: Path, trusted: Path | None = None) -> Iterator[Caller]:
    """A client that lives as long as the `with`.

    Args:
        kind: of client.
        proxy: which it finds in its environment.
        folder: for its files.
        trusted: a bundle of certificates; None: what it trusts by default.
    """
    environ = environment(proxy.url) | ({} if trusted is None else kind.trust(trusted, folder))
    with kind.start(folder, environ) as client:
        yield Caller(kind, client, proxy, folder, environ)
