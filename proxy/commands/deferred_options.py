"""The arguments of `breaker-proxy deferred`."""

import re
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING

from proxy.commands.arguments import count, note

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[ArgumentParser]

_ABOUT = """\
What is kept for later (fallback: {defer: true}), and what can be done to it.
  status    how many wait, for how long, for which circuits
  list      the requests, those first that were accepted first
  show      one of them, without its path and content
  put-back  have dead letters wait again: IDS, --queue or --all
  delete    remove IDS, or all of a --state
  export    everything, with fields and contents, as lines of JSON
  pause     deliver nothing, over a restart as well; resume ends that
"""
ID = re.compile("[0-9a-f]{32}")
STATES = ("waiting", "dead")
LONGEST_QUEUE = 300


def add(commands: "Commands", where: ArgumentParser) -> None:
    """Adds the command.

    Args:
        commands: those of the program.
        where: the options that say where the proxy is.
    """
    deferred = commands.add_parser(
        "deferred",
        help="what a running proxy keeps for later",
        description=_ABOUT,
        formatter_class=RawDescriptionHelpFormatter,
    )
    actions = deferred.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, about: str) -> ArgumentParser:
        return actions.add_parser(name, parents=[where], help=about, description=f"{about.capitalize()}.")

    action("status", "how many wait, and for how long")
    listed = action("list", "list the requests")
    _add_kind(listed)
    listed.add_argument(
        "--limit", type=count, metavar="N", help="at most so many (on a terminal 50, else all)"
    )
    shown = action("show", "show one request")
    shown.add_argument("ids", nargs=1, type=_id, metavar="ID", help="as the 202 has told it")
    put_back = action("put-back", "have dead letters wait again")
    put_back.add_argument("ids", nargs="*", type=_id, metavar="ID", help="which")
    put_back.add_argument("--all", action="store_true", help="all of them")
    _add_queue(put_back)
    deleted = action("delete", "remove requests")
    deleted.add_argument("ids", nargs="*", type=_id, metavar="ID", help="which")
    _add_kind(deleted)
    _add_kind(action("export", "write everything, with fields and contents, as lines of JSON"))
    for acting in (put_back, deleted, action("pause", "deliver nothing"), action("resume", "deliver again")):
        acting.add_argument("--note", type=note, metavar="TEXT", help="why, for the log")


def _add_kind(parser: ArgumentParser) -> None:
    parser.add_argument("--state", choices=STATES, help="only these")
    _add_queue(parser)


def _add_queue(parser: ArgumentParser) -> None:
    parser.add_argument("--queue", type=_queue, metavar="KEY", help="only those of this circuit")


def _id(text: str) -> str:
    if not ID.fullmatch(text):
        raise ArgumentTypeError("expected an id of 32 hexadecimal digits")
    return text


def _queue(text: str) -> str:
    if not text or len(text) > LONGEST_QUEUE:
        raise ArgumentTypeError("expected the key of a circuit")
    return text
