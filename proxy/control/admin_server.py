"""The admin port: listens, has the token that its callers must show, and ends with its process.

Which token that is may change while it runs: the one in `admin.token_file`; else, on loopback, none; else one
of our own, which is made once it is known on which port, and lasts until a file takes its place.
"""

from collections.abc import Callable, Mapping

from aiohttp import web

from proxy.control.admin_connections import AdminRunner
from proxy.control.admin_token import MadeToken, TokenFile
from proxy.control.trust import Trust
from proxy.core.policy import Admin, Endpoint

# How long what is still at work at the end has; aiohttp takes it twice.
_LEFTOVERS_S = 0.5


class AdminServer:
    """Serves the application of the admin port.

    Args:
        endpoint: where.
        application: see `admin.py`.
        trust: decides on its callers.
        on_trust: called when others may be trusted than before.
        clock: monotonic seconds.
        environ: the environment, by which a token of our own finds its place.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        application: web.Application,
        trust: Trust,
        *,
        on_trust: Callable[[], None],
        clock: Callable[[], float],
        environ: Mapping[str, str],
    ) -> None:
        self._endpoint = endpoint
        self._runner = AdminRunner(application, handle_signals=False, shutdown_timeout=_LEFTOVERS_S)
        self._trust = trust
        self._on_trust = on_trust
        self._clock = clock
        self._environ = environ
        self._token: TokenFile | MadeToken | None = None

    def configure(self, settings: Admin, content: bytes | None) -> None:
        """Goes on with these settings; whoever is not trusted by them has lost its access.

        Args:
            settings: name the file with the token.
            content: of that file.
        """
        former, path = self._token, settings.token_file
        if path is None or content is None:
            self._token = self._without_file(former)
        else:
            self._token = TokenFile(path, self._clock, content)
        if isinstance(former, MadeToken) and former is not self._token:
            former.remove()
        self._trust.configure(self._token, settings.hosts)
        self._on_trust()

    def _without_file(self, former: TokenFile | MadeToken | None) -> MadeToken | None:
        if self._endpoint.is_loopback:
            return None
        made = former if isinstance(former, MadeToken) else MadeToken()
        if self._runner.addresses and not made.is_written:
            made.write(self.port, self._environ)
        return made

    @property
    def port(self) -> int:
        """The port that it listens on, once it does."""
        return int(self._runner.addresses[0][1])

    @property
    def ports(self) -> set[int]:
        """All that it listens on: a name such as localhost may have several addresses."""
        return {int(address[1]) for address in self._runner.addresses}

    async def listen(self) -> None:
        """Takes clients from now on.

        Raises:
            OSError: the address is in use or is not ours.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, self._endpoint.host, self._endpoint.port).start()
        if isinstance(self._token, MadeToken):
            self._token.write(self.port, self._environ)

    async def close(self) -> None:
        """Ends; what is being answered has up to a second."""
        await self._runner.cleanup()
        if isinstance(self._token, MadeToken):
            self._token.remove()
