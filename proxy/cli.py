"""The command line: arguments, then the command that they name.

What a command needs is imported when it is asked for: the proxy takes 0.4 s to import, which nobody shall
wait for who only wants to see a circuit, or presses the TAB key.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from proxy import __version__
from proxy.commands import options
from proxy.commands.failure import Failed, Misused

if TYPE_CHECKING:
    from proxy.control.config import ConfigError
    from proxy.control.reload import Sources

# Exit codes: what systemd, Kubernetes and scripts see.
FAILED = 1
MISUSED = 2
INTERRUPTED = 128 + signal.SIGINT

# The signals that end the process; as in running.py.
ENDINGS = (signal.SIGTERM, signal.SIGINT)
# As in core/egress.py.
EGRESS = ("public", "no-metadata", "any")

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
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        from proxy.commands import completion  # noqa: PLC0415 -- for the TAB key only

        completion.complete(parser)
    arguments = parser.parse_args(argv)
    try:
        return _done(arguments)
    except Misused as error:
        sys.stderr.write(f"{error}\n")
        return MISUSED
    except Failed as error:
        sys.stderr.write(f"breaker-proxy: {error}\n")
        return FAILED
    except BrokenPipeError:
        # Whoever reads this has had enough, as `head` does. Nothing is left to be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED


def _done(arguments: argparse.Namespace) -> int:
    command = _COMMANDS.get(arguments.command)
    return options.run(arguments) if command is None else command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="breaker-proxy", description="An HTTP proxy that keeps a circuit breaker for each upstream host."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run_ = commands.add_parser("run", help="start the proxy", description="Start the proxy.")
    run_.add_argument(
        "--config", type=Path, metavar="FILE", help="the configuration; without one, all defaults"
    )
    run_.add_argument("--egress", choices=EGRESS, help="which addresses may be called (egress.addresses)")
    checked = commands.add_parser(
        "check",
        help="check a configuration file",
        description="Check a configuration file and list all faults.",
    )
    checked.add_argument("file", type=Path, metavar="FILE")
    commands.add_parser(
        "schema",
        help="print the JSON Schema of the configuration file",
        description="Print the JSON Schema of the configuration file, for editors.",
    )
    options.add(commands)
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


def _sources(path: Path | None, egress: str | None) -> "Sources":
    from proxy.control.reload import Sources  # noqa: PLC0415 -- see above

    return Sources(path, os.environ, {} if egress is None else {"egress.addresses": egress})


def _run(config: Path | None, egress: str | None) -> int:
    _answer_signals()
    import asyncio  # noqa: PLC0415 -- see above

    import uvloop  # noqa: PLC0415 -- see above

    from proxy.app import ListenError  # noqa: PLC0415 -- see above
    from proxy.control.config import ConfigError  # noqa: PLC0415 -- see above
    from proxy.running import run  # noqa: PLC0415 -- see above

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(_sources(config, egress)))
    except ConfigError as error:
        return _told(error)
    except ListenError as error:
        sys.stderr.write(f"breaker-proxy: {error}\n")
        return FAILED
    return 0


def _answer_signals() -> None:
    """Answers signals before there is anything to drain or to reload.

    By default SIGHUP would end the process, and the first process of a container would not hear of a SIGTERM
    at all. The configuration has not been read yet, so that what a SIGHUP asks for will be done anyway.
    """

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        # An exception could be lost: where an import drops something, nobody would hear of it.
        os._exit(0)

    for number in ENDINGS:
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _check(file: Path) -> int:
    from proxy import files  # noqa: PLC0415 -- see above
    from proxy.control.config import ConfigError  # noqa: PLC0415 -- see above
    from proxy.core.conflicts import doubts  # noqa: PLC0415 -- see above

    try:
        settings = _sources(file, None).load()
        files.check(settings)
    except ConfigError as error:
        return _told(error)
    for key, doubt in (*doubts(settings), *files.doubts(settings)):
        sys.stderr.write(f"{file}: {key}: warning: {doubt}\n")
    sys.stdout.write(f"{file}: ok\n")
    return 0


def _told(error: "ConfigError") -> int:
    for fault in error.faults:
        sys.stderr.write(f"{fault}\n")
    return MISUSED


def _name(text: str) -> str:
    from proxy.core.credentials import NAME_NOUN, is_name  # noqa: PLC0415 -- see above

    if not is_name(text):
        raise argparse.ArgumentTypeError(f"expected {NAME_NOUN}")
    return text


def _token(name: str) -> int:
    import secrets  # noqa: PLC0415 -- see above

    from proxy.core.credentials import line_of  # noqa: PLC0415 -- see above

    token = secrets.token_urlsafe(RANDOM_BYTES)
    sys.stdout.write(f"{line_of(name, token)}\n")
    # First: who has read the token can rely on its line.
    sys.stdout.flush()
    sys.stderr.write(f"{name}:{token}\n")
    return 0


def _demo(seconds: float | None) -> int:
    import asyncio  # noqa: PLC0415 -- see above
    from contextlib import suppress  # noqa: PLC0415 -- see above

    import uvloop  # noqa: PLC0415 -- see above

    try:
        from proxy.demo import demo  # noqa: PLC0415 -- rich is an extra, imported only where it is used
    except ImportError:
        sys.stderr.write("breaker-proxy: the demo needs an extra: pip install 'breaker-proxy[terminal]'\n")
        return FAILED
    # Ctrl-C is how the demo ends.
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(demo(seconds))
    return 0


def _schema() -> int:
    from proxy.control.schema import text  # noqa: PLC0415 -- see above

    sys.stdout.write(text())
    return 0


def _completion(shell: str) -> int:
    from proxy.commands.completion import code  # noqa: PLC0415 -- see above

    sys.stdout.write(code(shell))
    return 0


def _version() -> int:
    sys.stdout.write(f"breaker-proxy {__version__}\n")
    return 0


# All others are those of `options`, for a running proxy.
_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": lambda arguments: _run(arguments.config, arguments.egress),
    "check": lambda arguments: _check(arguments.file),
    "schema": lambda _: _schema(),
    "completion": lambda arguments: _completion(arguments.shell),
    "demo": lambda arguments: _demo(arguments.seconds),
    "token": lambda arguments: _token(arguments.name),
    "version": lambda _: _version(),
}
