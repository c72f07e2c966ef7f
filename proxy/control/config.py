"""The configuration, from all its sources: command line over environment over file over defaults.

`core/policy.py` lists every setting; here is where they may come from, and how a fault names its source. A
setting of a supported type (see `sections.py`) needs no change here.

`load` is synchronous and reads nothing but the file.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode, Node

from proxy.control import yaml_source
from proxy.control.sections import Fault, Walk, build, lay_over
from proxy.core.conflicts import conflicts
from proxy.core.policy import Settings

__all__ = ["ENVIRONMENT", "FLAGS", "ConfigError", "Fault", "load"]

# Any other BREAKER_PROXY_* is not ours: Kubernetes injects BREAKER_PROXY_PORT for a Service of that name.
ENVIRONMENT = {
    "BREAKER_PROXY_LISTEN_PROXY": "listen.proxy",
    "BREAKER_PROXY_LISTEN_ADMIN": "listen.admin",
    "BREAKER_PROXY_OPEN_RELAY": "listen.open_relay",
    "BREAKER_PROXY_EGRESS": "egress.addresses",
    "BREAKER_PROXY_LOG_LEVEL": "log.level",
}
# How a fault calls a key that the command line sets; the options themselves are in `cli.py`.
FLAGS = {"egress.addresses": "--egress"}


class ConfigError(Exception):
    """A configuration that cannot be used; its text has one line for each fault.

    Attributes:
        faults: all that were found, at least one: those of the file by line, then the environment's, then
            the command line's.
    """

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, str]) -> Settings:
    """Reads and checks the whole configuration.

    What another source overrides must be right all the same. Values that are wrong together (`conflicts`) are
    looked for only when each is right by itself: a guess in place of a wrong one would mislead.

    Args:
        path: the file; None is none.
        environ: the environment; only the variables of `ENVIRONMENT` matter, and an empty one is unset.
        overrides: what the command line sets, by dotted key; `FLAGS` has the names for the messages.

    Raises:
        ConfigError: with all faults.
    """
    walks: list[Walk] = []
    faults: list[Fault] = []
    values: dict[str, Any] = {}
    for source, root in _sources(path, environ, overrides, faults):
        walk = Walk(source)
        lay_over(values, walk.section(root, Settings))
        # An alias leads back to an earlier line; sorting brings its faults there.
        faults += sorted(walk.faults, key=lambda fault: fault.line or 0)
        walks.append(walk)
    if not faults:
        settings: Settings = build(Settings, values)
        unset = str(path) if path else "defaults"
        faults = [_conflict(key, wrong, walks, unset) for key, wrong in conflicts(settings)]
        order = [unset, *(walk.source for walk in walks)]
        faults.sort(key=lambda fault: (order.index(fault.source), fault.line or 0))
    if faults:
        raise ConfigError(faults)
    return settings


def _sources(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, str], faults: list[Fault]
) -> Iterator[tuple[str, Node]]:
    """Each source that sets anything, as its name and its root node; later ones override earlier ones."""
    if path is not None:
        try:
            root = yaml_source.read(path)
        except yaml_source.Unreadable as error:
            faults.append(Fault(str(path), error.line, "", error.message))
        else:
            if root is not None:
                yield str(path), root
    for variable, key in ENVIRONMENT.items():
        if text := environ.get(variable):
            yield variable, _nested(key, text)
    for key, text in overrides.items():
        yield FLAGS.get(key, "command line"), _nested(key, text)


def _nested(key: str, text: str) -> Node:
    """What a file would say that sets only this key."""
    node: Node = yaml_source.plain(text)
    for name in reversed(key.split(".")):
        node = MappingNode("", [(yaml_source.plain(name), node)])
    return node


def _conflict(key: str, wrong: str, walks: list[Walk], unset: str) -> Fault:
    """Blames the source that has the last word on the key.

    If none sets it, what stands beside it does not go with its default: then the line is that of the section
    or of the list's item that the key would stand in, and the source `unset`.
    """
    for walk in reversed(walks):
        if key in walk.lines:
            return Fault(walk.source, walk.lines[key], key, wrong)
    around = key
    while around:
        around, _, _ = around.rpartition(".")
        for walk in walks:
            # Only a file has lines, and it is what `unset` names.
            if (line := walk.lines.get(around)) is not None:
                return Fault(walk.source, line, key, wrong)
    return Fault(unset, None, key, wrong)
