"""Finds the reverse route of a request: by host, and by path prefix on segment boundaries (design section 6).

Paths are compared byte by byte and dot segments stay as they are: what the upstream makes of them is its own
affair, and signatures cover the path.
"""

from collections.abc import Iterable

from proxy.core.errors import DestinationNotFound
from proxy.core.route import Route
from proxy.core.target import Target


class Routes:
    """The longest prefix wins; of equal ones the one that names a host, then the first."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = sorted(
            routes, key=lambda route: (len(route.path.path), route.host is not None), reverse=True
        )

    def target(self, host: str, port: int, origin_form: str) -> Target:
        """Names the target of a request.

        Args:
            host: that the client asked for, normalised; empty if it named none.
            port: that the client asked for.
            origin_form: path and query as received, or `*`.

        Raises:
            DestinationNotFound: 404.
        """
        for route in self._routes:
            if route.path.covers(origin_form) and (route.host is None or route.host.matches(host, port)):
                return _along(route, origin_form)
        raise DestinationNotFound("no route leads from this host and path to an upstream")


def _along(route: Route, origin_form: str) -> Target:
    upstream = route.upstream
    rest = origin_form[len(route.path.path) :]
    if origin_form != "*":
        rest = upstream.path + rest
        if not rest.startswith("/"):
            # RFC 9112 section 3.2.1: an empty path is sent as "/".
            rest = "/" + rest
    return Target(upstream.scheme, upstream.host, upstream.port, rest, upstream.authority, route.internal)
