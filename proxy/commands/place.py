"""Where the proxy is, and where its token may be.

By the command line, then by the environment, then by the configuration file, else on 127.0.0.1:3129.
"""

import os
import re
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from proxy import regular_file
from proxy.commands.failure import Misused

if TYPE_CHECKING:
    from proxy.core.policy import Settings

DEFAULT = ("127.0.0.1", 3129)
_VARIABLE = "BREAKER_PROXY_LISTEN_ADMIN"
_WRITTEN = re.compile(
    r"(?:http://)?(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z._-]+))(?::(?P<port>[0-9]{1,5}))?/?"
)
_MAX_PORT = 65535
_TOKEN = re.compile(r"[!-~]{16,512}")
_MOST_OF_A_TOKEN_FILE = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where to ask.

    Attributes:
        host: a name or an address, without brackets.
        port: 1-65535.
        origin: who says so, for people.
        token_files: those that somebody has chosen.
    """

    host: str
    port: int
    origin: str
    token_files: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def written(text: str) -> tuple[str, int]:
    """Reads what `--admin` says: `host`, `host:port`, `[::1]:3129`, or such a thing behind `http://`.

    Raises:
        ArgumentTypeError: it is something else.
    """
    parts = _WRITTEN.fullmatch(text)
    port = int(parts["port"] or DEFAULT[1]) if parts else 0
    if parts is None or not 1 <= port <= _MAX_PORT:
        why = "; the admin port speaks plain HTTP" if text.startswith("https:") else ""
        raise ArgumentTypeError(f"expected HOST:PORT or http://HOST:PORT{why}")
    return parts["ipv6"] or parts["name"], port


def found(
    admin: tuple[str, int] | None, config: Path | None, token_file: str | None, environ: Mapping[str, str]
) -> Place:
    """Where the proxy is, by all that says so.

    Args:
        admin: what `--admin` says.
        config: what `--config` says.
        token_file: what `--token-file` says.
        environ: the environment.

    Raises:
        Misused: the file or the variable cannot be used, with all faults; or they say no place to ask.
    """
    files = [token_file] if token_file else []
    (host, port), origin = DEFAULT, "the default"
    variable = environ.get(_VARIABLE, "")
    if config is not None or (variable and admin is None):
        settings = _settings(config, {_VARIABLE: variable})
        host, port = settings.listen.admin.host, settings.listen.admin.port
        origin = _VARIABLE if variable else f"listen.admin in {config}"
        if settings.admin.token_file is not None:
            files.append(settings.admin.token_file)
    if admin is not None:
        (host, port), origin = admin, "--admin"
    if port == 0:
        raise Misused(f"port 0 ({origin}) is any free one: say the real one with --admin HOST:PORT")
    return Place(_reachable(host), port, origin, tuple(files))


def tokens(
    place: Place, environ: Mapping[str, str], *, is_here: bool
) -> Iterator[tuple[str, str | None, str]]:
    """Looks for the token of a proxy.

    Args:
        place: where it is.
        environ: its environment, as far as it is ours.
        is_here: whether it runs on this machine, so that a token that it has made may be shown to it.

    Yields:
        Each file that was looked into, the token in it, or None and why there is none.
    """
    # Somebody may use a link on purpose for a file of theirs.
    files = [(file, 0) for file in place.token_files]
    if is_here:
        from proxy.control.token_places import places  # noqa: PLC0415 -- asked for a token only now and then

        # In the temporary directory anybody may leave a link, to a secret that is not for whoever listens.
        files += [(str(path), os.O_NOFOLLOW) for path in places(place.port, environ)]
    for file, flags in files:
        try:
            yield file, _read(file, flags), ""
        except (OSError, ValueError) as error:
            yield file, None, (error.strerror if isinstance(error, OSError) else None) or str(error)


def _settings(config: Path | None, environ: Mapping[str, str]) -> "Settings":
    from proxy.control.config import ConfigError, load  # noqa: PLC0415 -- 80 ms that most calls need not wait for

    try:
        return load(config, environ, {})
    except ConfigError as error:
        raise Misused(str(error)) from None


def _read(file: str, flags: int) -> str:
    content, _ = regular_file.read(file, _MOST_OF_A_TOKEN_FILE, flags)
    text = content.decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(text):
        raise ValueError("holds no token")
    return text


def _reachable(host: str) -> str:
    """Where a process is reached from this machine that listens on all its addresses."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004 -- IP's versions
