"""An upstream for the dispatcher to call: `upstream.py healthy|flapping|dead [--port N] [--flap SECONDS]`.

`healthy` answers 200. `flapping` does so for a while, then answers 500 for as long, and so on. `dead` accepts
connections and never says a word. It needs nothing but Python, so it runs in the image of the proxy.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from types import FrameType


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(description="An upstream that is healthy, flapping or dead.")
    parser.add_argument("kind", choices=["healthy", "flapping", "dead"])
    parser.add_argument("--host", default="", help="where it listens; all addresses by default")
    parser.add_argument("--port", type=int, default=8080, help="0 takes any free one")
    parser.add_argument("--flap", type=float, default=20.0, metavar="SECONDS")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    began = time.monotonic()

    def is_well() -> bool:
        return options.kind != "flapping" or int((time.monotonic() - began) / options.flap) % 2 == 0

    server = ThreadingHTTPServer((options.host, options.port), _handler(is_well, options.kind == "dead"))
    # Nobody waits for the calls that a dead upstream holds.
    server.daemon_threads = True
    sys.stdout.write(f"{options.kind} upstream on port {server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _handler(is_well: Callable[[], bool], is_dead: bool) -> type[BaseHTTPRequestHandler]:  # noqa: FBT001 -- one call
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if is_dead:
                Event().wait()
            content = b"thank you\n" if is_well() else b"no\n"
            self.send_response(HTTPStatus.OK if is_well() else HTTPStatus.INTERNAL_SERVER_ERROR)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """The dispatcher tells what came of it."""

    return Handler


if __name__ == "__main__":
    main()
