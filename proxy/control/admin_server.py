"""The admin port: listens, and ends with its process."""

from aiohttp import web

from proxy.core.policy import Endpoint

# How long what is still at work at the end has; aiohttp takes it twice.
_LEFTOVERS_S = 0.5


class AdminServer:
    """Serves the application of the admin port.

    Args:
        application: see `admin.py`.
    """

    def __init__(self, application: web.Application) -> None:
        self._runner = web.AppRunner(
            application, handle_signals=False, access_log=None, shutdown_timeout=_LEFTOVERS_S
        )

    @property
    def port(self) -> int:
        """The port that it listens on, once it does."""
        return int(self._runner.addresses[0][1])

    @property
    def ports(self) -> set[int]:
        """All that it listens on: a name such as localhost may have several addresses."""
        return {int(address[1]) for address in self._runner.addresses}

    async def listen(self, endpoint: Endpoint) -> None:
        """Takes clients from now on.

        Raises:
            OSError: the address is in use or is not ours.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, endpoint.host, endpoint.port).start()

    async def close(self) -> None:
        """Ends; what is being answered has up to a second."""
        await self._runner.cleanup()
