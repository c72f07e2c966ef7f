"""The command line: arguments, then configuration, then `app.run()`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import uvloop

from proxy import __version__
from proxy.app import ListenError, run
from proxy.control.config import ConfigError, load
from proxy.core.egress import AllowedAddresses
from proxy.core.policy import Settings

# Exit codes: what systemd, Kubernetes and scripts see.
LISTEN_FAILED = 1
BAD_CONFIGURATION = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name, and returns the exit code."""
    arguments = _parser().parse_args(argv)
    command: str = arguments.command
    try:
        if command == "run":
            settings = _load(arguments.config, arguments.egress)
            return _run(settings)
        if command == "check":
            _load(arguments.file, None)
            sys.stdout.write(f"{arguments.file}: ok\n")
            return 0
        if command == "demo":
            return _demo(arguments.seconds)
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
    check = commands.add_parser(
        "check",
        help="check a configuration file",
        description="Check a configuration file and list all faults.",
    )
    check.add_argument("file", type=Path, metavar="FILE")
    demo = commands.add_parser(
        "demo",
        help="watch three upstreams in the terminal",
        description="Start the proxy with a healthy, a flapping and a dead upstream; show their circuits.",
    )
    demo.add_argument("--seconds", type=float, metavar="N", help="end after N seconds instead of at Ctrl-C")
    commands.add_parser("version", help="print the version", description="Print the version.")
    return parser


def _load(path: Path | None, egress: str | None) -> Settings:
    flags = {} if egress is None else {"egress.addresses": egress}
    return load(path, os.environ, flags)


def _run(settings: Settings) -> int:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))
    except ListenError as error:
        sys.stderr.write(f"breaker-proxy: {error}\n")
        return LISTEN_FAILED
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
