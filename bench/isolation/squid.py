"""Squid on the way, as the forward proxy that many have already.

Of what the tuned configuration has, Squid has two things, and is given both: `connect_timeout` and
`read_timeout`. So a call to a black hole ends after as long as with ours. It counts in whole seconds (in
the scaled form it gets at least one), and looks once a second, so that a timeout comes up to a second late.

It has nothing that remembers: no circuit breaker and no ejection for what it forwards, so each call to a
sick endpoint goes through and takes as long as the one before. What it has for parents (`cache_peer` with
`connect-fail-limit`) counts failed connections to configured proxies, not silence and not statuses, and not
origin servers.

It caches nothing here: a delivery is a POST.
"""

import math
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from isolation.running import Running, environ, version
from isolation.scenario import Scenario
from support.process import free_port
from support.servers import ServerError, search_path, serving

_TRIES = 5
_TAKEN = "Address already in use"
_UP = "Accepting HTTP Socket connections"

# Nothing in it is a file that it writes: started by root, it goes on as a user who may write nowhere here.
_CONFIGURATION = """\
http_port 127.0.0.1:{port}
http_access allow localhost
http_access deny all
connect_timeout {connect_s} seconds
read_timeout {head_s} seconds
shutdown_lifetime 0 seconds
visible_hostname isolation
cache deny all
cache_mem 0
access_log none
cache_log /dev/null
cache_store_log none
pid_filename none
netdb_filename none
coredump_dir none
pinger_enable off
"""


def configuration(scenario: Scenario, port: int) -> str:
    """Its file."""
    return _CONFIGURATION.format(
        port=port, connect_s=math.ceil(scenario.connect_s), head_s=math.ceil(scenario.head_s)
    )


@contextmanager
def start(folder: Path, scenario: Scenario, _ports: Mapping[str, int], _ca: Path | None) -> Iterator[Running]:
    """Starts it; it has ended when the `with` has.

    Args:
        folder: empty, for what it reads and says.
        scenario: has its timeouts.

    Raises:
        ServerError: it does not start, or ends before it should.
        FileNotFoundError: it is not installed.
    """
    program = shutil.which("squid", path=search_path())
    if program is None:
        raise FileNotFoundError("no squid here: bench/isolation/install installs it")
    with ExitStack() as held:
        # It cannot take port 0 and tell which it is, so somebody may be faster.
        for tries_left in reversed(range(_TRIES)):
            port = free_port()
            try:
                held.enter_context(_listening(program, folder, configuration(scenario, port)))
            except ServerError as error:
                if tries_left and _TAKEN in str(error):
                    continue
                raise
            break
        said = re.search(r"Version (\S+)", version(program, "-v"))
        yield Running(environ(f"http://127.0.0.1:{port}"), f"Squid {said[1] if said else '?'}")


@contextmanager
def _listening(program: str, folder: Path, file: str) -> Iterator[None]:
    path = folder / "squid.conf"
    path.write_text(file, encoding="ascii")
    # In the foreground (-N), and with what it does told to standard error (-d 1).
    with serving([program, "-N", "-d", "1", "-f", path], folder / "squid.log") as squid:
        squid.until(lambda: _UP in squid.said)
        yield
