"""The arguments of the commands against a running proxy, and which function each of them leads to."""

import os
from argparse import (
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.commands import deferred_options
from proxy.commands.arguments import count, note
from proxy.commands.completion import SHELLS, circuit_keys
from proxy.commands.place import found, written
from proxy.commands.vocabulary import LONGEST_SEARCH, SORTS, STATES, is_ttl

# argparse has no public name for what add_subparsers returns, and at run time none with brackets.
if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Callable

    from proxy.commands.admin import Admin

    Commands = _SubParsersAction[ArgumentParser]

_LONGEST_KEY = 300

_ABOUT_CIRCUIT = """\
Show one circuit, or do something to it.
  show   why it is as it is, what it cost, its past and its settings
  open   force it open: no call passes
  close  force it closed: all calls pass, whatever comes of them
  auto   end that: forced open it begins to probe, forced closed it is closed and empty
  reset  have it start anew: closed, on level 0, not forced

KEY is HOST:PORT as in `breaker-proxy circuits`, or HOST alone if it has one circuit. Quote keys that have #
or [ in them where your shell gives these a meaning, as zsh does.
"""
_ACTIONS = {
    "open": "force it open: no call passes",
    "close": "force it closed: all calls pass",
    "auto": "end that",
    "reset": "have it start anew",
}
_ABOUT_COMPLETION = """\
Write the code by which a shell completes commands, options and the keys of circuits.
  bash  source <(breaker-proxy completion bash)      in ~/.bashrc
  zsh   source <(breaker-proxy completion zsh)       in ~/.zshrc, behind compinit
  fish  breaker-proxy completion fish | source       in ~/.config/fish/config.fish
"""


def add(commands: "Commands") -> None:
    """Adds these commands to those of the program."""
    where = _where()
    listed = commands.add_parser(
        "circuits",
        parents=[where],
        help="list the circuits of a running proxy",
        description="List the circuits of a running proxy: a table on a terminal, JSON in a pipe.",
    )
    listed.add_argument("--watch", action="store_true", help="look again each second, until Ctrl-C")
    listed.add_argument(
        "--state",
        action="append",
        choices=STATES,
        metavar="STATE",
        help=f"only these, may be repeated: {', '.join(STATES)}",
    )
    listed.add_argument("--search", type=_search, metavar="TEXT", help="only keys that have this in them")
    listed.add_argument(
        "--sort",
        choices=list(SORTS),
        default="state",
        metavar="BY",
        help=f"{', '.join(SORTS)}; numbers the largest first, times the latest",
    )
    listed.add_argument("--reverse", action="store_true", help="the other way round")
    listed.add_argument(
        "--limit", type=count, metavar="N", help="at most so many (on a terminal 100, else all)"
    )
    circuit = commands.add_parser(
        "circuit",
        help="show a circuit of a running proxy, or act on it",
        description=_ABOUT_CIRCUIT,
        formatter_class=RawDescriptionHelpFormatter,
    )
    actions = circuit.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_key(actions.add_parser("show", parents=[where], help="show it", description="Show one circuit."))
    for action, about in _ACTIONS.items():
        acting = actions.add_parser(action, parents=[where], help=about, description=f"{about.capitalize()}.")
        _add_key(acting)
        if action in {"open", "close"}:
            acting.add_argument(
                "--for",
                dest="ttl",
                type=_ttl,
                metavar="TIME",
                help="10m, 90s, 2h; else until `auto` or `reset`",
            )
        acting.add_argument("--note", type=note, metavar="TEXT", help="why, for the log and the events")
    commands.add_parser(
        "events",
        parents=[where],
        help="follow the transitions of all circuits",
        description="Follow the transitions of all circuits, one a line, until Ctrl-C; JSON lines in a pipe.",
    )
    deferred_options.add(commands, where)
    completion = commands.add_parser(
        "completion",
        help="write the code for completion in a shell",
        description=_ABOUT_COMPLETION,
        formatter_class=RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=SHELLS)


def run(arguments: Namespace) -> int:
    """Runs the command, and returns the exit code.

    Raises:
        Failed, Misused: with what is to be told.
    """
    from proxy.commands.admin import Admin  # noqa: PLC0415 -- for those that ask the proxy

    place = found(arguments.admin, arguments.config, arguments.token_file, os.environ)
    admin = Admin(place, os.environ)
    return _function(arguments)(arguments, admin)


def _function(arguments: Namespace) -> "Callable[[Namespace, Admin], int]":
    # Each with what it needs, and no more.
    if arguments.command == "circuits":
        from proxy.commands.circuits import circuits  # noqa: PLC0415

        return circuits
    if arguments.command == "events":
        from proxy.commands.events import events  # noqa: PLC0415

        return events
    if arguments.command == "deferred":
        from proxy.commands import deferred  # noqa: PLC0415

        return deferred.run
    from proxy.commands import steer  # noqa: PLC0415

    return steer.show if arguments.action == "show" else steer.steer


def _where() -> ArgumentParser:
    where = ArgumentParser(add_help=False)
    group = where.add_argument_group("the proxy")
    group.add_argument(
        "--admin", type=written, metavar="HOST:PORT", help="its admin port (listen.admin; 127.0.0.1:3129)"
    )
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="its configuration, which says where it is"
    )
    group.add_argument("--token-file", metavar="FILE", help="the token of its admin port, where it wants one")
    where.add_argument("--json", action="store_true", help="JSON also on a terminal")
    return where


def _add_key(parser: ArgumentParser) -> None:
    key = parser.add_argument(
        "key", metavar="KEY", type=_key, help="HOST:PORT, or HOST if it has one circuit"
    )
    key.completer = circuit_keys  # type: ignore[attr-defined]  # argcomplete looks for it


def _key(text: str) -> str:
    if not text or len(text) > _LONGEST_KEY:
        raise ArgumentTypeError("expected HOST:PORT")
    return text


def _ttl(text: str) -> str:
    if not is_ttl(text):
        raise ArgumentTypeError("expected a duration such as 90s, 10m or 2h")
    return text


def _search(text: str) -> str:
    if len(text) > LONGEST_SEARCH:
        raise ArgumentTypeError(f"expected at most {LONGEST_SEARCH} characters")
    return text
