"""The command line: arguments, then configuration, then `app.run()`."""

import argparse
import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvloop

from proxy import __version__
from proxy.app import ENDINGS, ListenError, run
from proxy.control.config import ConfigError
from proxy.control.reload import Sources
from proxy.core.credentials import NAME_NOUN, is_name, line_of
from proxy.core.egress import AllowedAddresses
from proxy.files import check

# Exit codes: what systemd, Kubernetes and scripts see.
LISTEN_FAILED = 1
BAD_CONFIGURATION = 2


# RFC 4086: nobody guesses 256 bits.
RANDOM_BYTES = 32
_ABOUT_TOKENS = """\
Make a token for a client of the proxy. Two lines are written:
  on standard output  NAME:SHA256, the line for listen.credentials_file;
  on standard error   NAME:TOKEN, which the client gives as user and password. It is stored nowhere.

  breaker-proxy token ci >> tokens
  HTTP_PROXY=http://$(breaker-proxy token ci 2>&1 >> tokens)@127.0.0.1:3128
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name, and returns the exit code."""
    arguments = _parser().parse_args(argv)
    command: str = arguments.command
    try:
        if command == "run":
            _end_by_signal()
            return _run(_sources(arguments.config, arguments.egress))
        if command == "check":
            check(_sources(arguments.file, None).load())
            sys.stdout.write(f"{arguments.file}: ok\n")
            return 0
        if command == "demo":
            return _demo(arguments.seconds)
        if command == "token":
            return _token(arguments.name)
    except ConfigError as error:
        for fault in error.faults:
            sys.stderr.write(f"{fault}\n")
        return BAD_CONFIGURATION
    sys.stdout.write(f"breaker-proxy {__version__}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="breaker-proxy", description="An HTTP proxy that keeps a circuit breaker for each upstream host."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run_ = commands.add_parser("run", help="start the proxy", description="Start the proxy.")
    run_.add_argument(
        "--config", type=Path, metavar="FILE", help="the configuration; without one, all defaults"
    )
    run_.add_argument(
        "--egress",
        choices=[choice.value for choice in AllowedAddresses],
        help="which addresses may be called (egress.addresses)",
    )
    checked = commands.add_parser(
        "check",
        help="check a configuration file",
        description="Check a configuration file and list all faults.",
    )
    checked.add_argument("file", type=Path, metavar="FILE")
    demo = commands.add_parser(
        "demo",
        help="watch three upstreams in the terminal",
        description="Start the proxy with a healthy, a flapping and a dead upstream; show their circuits.",
    )
    demo.add_argument("--seconds", type=float, metavar="N", help="end after N seconds instead of at Ctrl-C")
    token = commands.add_parser(
        "token",
        help="make a token for a client of the proxy",
        description=_ABOUT_TOKENS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    token.add_argument("name", type=_name, metavar="NAME", help="whose it is, for you and for the log")
    commands.add_parser("version", help="print the version", description="Print the version.")
    return parser


def _sources(path: Path | None, egress: str | None) -> Sources:
    return Sources(path, os.environ, {} if egress is None else {"egress.addresses": egress})


def _end_by_signal() -> None:
    """Ends the process in order while there is nothing to drain yet.

    Without a handler the first process of a container would not hear of a SIGTERM at all.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    for number in ENDINGS:
        signal.signal(number, end)
    # By default it ends a process. What it asks for comes anyhow: the configuration has not been read yet.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _run(sources: Sources) -> int:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(sources))
    except ListenError as error:
        sys.stderr.write(f"breaker-proxy: {error}\n")
        return LISTEN_FAILED
    return 0


def _name(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"expected {NAME_NOUN}")
    return text


def _token(name: str) -> int:
    token = secrets.token_urlsafe(RANDOM_BYTES)
    sys.stdout.write(f"{line_of(name, token)}\n")
    # First: who has read the token can rely on its line.
    sys.stdout.flush()
    sys.stderr.write(f"{name}:{token}\n")
    return 0


def _demo(seconds: float | None) -> int:
    try:
        from proxy.demo import demo  # noqa: PLC0415 -- rich is an extra, imported only where it is used
    except ImportError:
        sys.stderr.write("breaker-proxy: the demo needs an extra: pip install 'breaker-proxy[demo]'\n")
        return LISTEN_FAILED
    # Ctrl-C is how the demo ends.
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(demo(seconds))
    return 0
