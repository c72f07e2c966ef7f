"""What the TAB key completes: commands and options, and the keys of circuits from the running proxy.

By argcomplete, which asks this program itself, so that keys can be had live. (shtab, the other one that is
well kept, writes scripts that know words only, and none for fish.)
"""

import os
from argparse import ArgumentParser, Namespace
from typing import Any

from proxy.commands.failure import Failed, Misused
from proxy.commands.place import found

SHELLS = ("bash", "zsh", "fish")
# Somebody waits at a keyboard.
_PATIENCE_S = 0.5
_MOST = 100
NEEDS_EXTRA = "completion needs an extra: pip install 'breaker-proxy[terminal]'"


def code(shell: str) -> str:
    """The code by which a shell, one of `SHELLS`, asks this program.

    Raises:
        Failed: argcomplete is not there.
    """
    try:
        from argcomplete.shell_integration import shellcode  # noqa: PLC0415 -- an extra
    except ImportError:
        raise Failed(NEEDS_EXTRA) from None
    return shellcode(["breaker-proxy"], use_defaults=True, shell=shell)


def complete(parser: ArgumentParser) -> None:
    """Answers the shell that asks, and ends the process; returns if argcomplete is not there."""
    try:
        import argcomplete  # noqa: PLC0415 -- an extra
    except ImportError:
        return
    argcomplete.autocomplete(parser, always_complete_options="long")


def circuit_keys(prefix: str, parsed_args: Namespace, **_: Any) -> list[str]:
    """The keys that begin like what was typed so far; none if the proxy does not say within a moment.

    Args:
        prefix: what was typed.
        parsed_args: the options before it.
    """
    from proxy.commands.admin import Admin  # noqa: PLC0415 -- what only this needs
    from proxy.commands.keys import keys  # noqa: PLC0415 -- as above

    said = vars(parsed_args)
    try:
        place = found(said.get("admin"), said.get("config"), said.get("token_file"), os.environ)
        known = keys(Admin(place, os.environ, _PATIENCE_S), prefix.lower(), _MOST)
    except (Failed, Misused):
        return []
    return [key for key in known if key.startswith(prefix.lower()) and key.isprintable()]
