"""`python -m proxy.livez`: whether the proxy of this container lives, for the HEALTHCHECK of the image.

It asks `/livez` where the admin port is by the environment. There the image says it, and the environment wins
over the file, so a file cannot move the port away from it. Exit codes are those of a HEALTHCHECK: 0 it lives,
1 it does not. It is asked every few seconds, so it imports nothing that takes time.
"""

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException

_VARIABLE = "BREAKER_PROXY_LISTEN_ADMIN"
_DEFAULT = "127.0.0.1:3129"
# Linux connects these to this machine as well; to say so is clearer, and true elsewhere.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- not to bind to it
# Of the 3 s that the HEALTHCHECK has.
_PATIENCE_S = 2.0
_OK = 200


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Asks once, says on standard output what came of it, and returns the exit code."""
    host, port = address(environ)
    connection = HTTPConnection(host, port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        sys.stdout.write(f"nobody answers on {host} port {port}: {error}\n")
        return 1
    finally:
        connection.close()
    sys.stdout.write(f"/livez says {status}\n")
    return 0 if status == _OK else 1


def address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Host and port to be asked, by the environment; without the variable, the defaults of the program.

    The program has checked the variable at its start (`parse_endpoint` in `control/convert.py`).
    """
    host, _, port = (environ.get(_VARIABLE) or _DEFAULT).rpartition(":")
    host = host.strip("[]")
    return _ANYWHERE.get(host, host), int(port)


if __name__ == "__main__":
    sys.exit(main())
