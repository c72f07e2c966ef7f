"""The ways from the dispatcher to the endpoints that are compared, in the order in which they are told."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from isolation import envoy, ours, squid
from isolation.running import Running, environ
from isolation.scenario import Scenario

Start = Callable[[Path, Scenario, Mapping[str, int], Path | None], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Way:
    """A way from the dispatcher to the endpoints.

    Attributes:
        slug: its name in names of files.
        label: its name for readers.
        start: opens it until the `with` ends. Takes an empty folder for what it writes, the scenario, the
            ports of the endpoints on 127.0.0.1 by name, and where they speak TLS the file of the CA that
            they have their certificates from.
        is_all_healthy: whether nobody falls sick in its run.
        is_https: whether the endpoints speak TLS.
    """

    slug: str
    label: str
    start: Start
    is_all_healthy: bool = False
    is_https: bool = False


@contextmanager
def direct(
    _folder: Path, _scenario: Scenario, _ports: Mapping[str, int], _ca: Path | None
) -> Iterator[Running]:
    """Nothing is on the way."""
    yield Running(environ())


def ways(tuned: Path = ours.TUNED) -> tuple[Way, ...]:
    """All of them.

    Args:
        tuned: the configuration of our tuned ones.
    """
    start_tuned = partial(ours.start, file=tuned)
    return (
        Way("all-healthy", "all healthy, direct", direct, is_all_healthy=True),
        Way("direct", "direct", direct),
        Way("squid", "Squid", squid.start),
        Way("envoy", "Envoy", envoy.start),
        Way("defaults", "breaker-proxy, defaults", ours.start),
        Way("tuned", "breaker-proxy, tuned", start_tuned),
        Way(
            "defaults-https",
            "breaker-proxy, defaults, HTTPS",
            partial(ours.start, is_https=True),
            is_https=True,
        ),
        Way("tuned-https", "breaker-proxy, tuned, HTTPS", partial(start_tuned, is_https=True), is_https=True),
    )
