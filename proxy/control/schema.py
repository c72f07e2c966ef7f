"""The JSON Schema (2020-12) of the configuration file, for editors.

It is made of the same dataclasses as the settings, by the same kinds (`sections.py`), so a new setting is in
it at once; only the forms of single values stand here again, as patterns. What a schema cannot say, such as a
duration within bounds or two keys that go together, it lets pass: `breaker-proxy check` says that.

What each key means is told in the words of config.example.yaml, which `make descriptions` brings into
descriptions.json.
"""

import json
from dataclasses import MISSING, Field, fields
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from proxy import __version__
from proxy.control.convert import shape_of
from proxy.control.effective import written
from proxy.control.sections import Kind, kinds_of
from proxy.core.address import Network
from proxy.core.fallback import RedirectUrl
from proxy.core.host_pattern import HostPattern
from proxy.core.policy import Endpoint, Settings
from proxy.core.ports import Ports
from proxy.core.quantities import Bytes, Range, Seconds
from proxy.core.route import PathPrefix, UpstreamUrl
from proxy.core.scope import CircuitKey
from proxy.core.statuses import Statuses

Schema = dict[str, Any]

_DESCRIPTIONS = Path(__file__).with_name("descriptions.json")
_TITLE = f"The configuration of breaker-proxy {__version__}"
# The classes of characters that break lines, which no text may have; `str.isprintable` refuses a few more.
_TEXT = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_PATH = '/[!"$->@-~]*'


def text() -> str:
    """The schema as JSON, for people as well."""
    return f"{json.dumps(schema(), indent=2)}\n"


def schema() -> Schema:
    """The schema of the file."""
    whole = _section(Settings, "", with_defaults=True)
    # An empty file is one in which everything is as by default.
    whole["type"] = ["object", "null"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": _TITLE, **whole}


def _section(section: type, prefix: str, *, with_defaults: bool, in_part: bool = False) -> Schema:
    """The schema of a section.

    Args:
        section: a dataclass.
        prefix: its dotted key, with a dot at its end; empty for the file.
        with_defaults: whether an absent key has the default of its field; else it is as elsewhere.
        in_part: whether keys without a default may be absent as well.
    """
    kinds = kinds_of(section)
    properties = {}
    needed = []
    for field in fields(section):
        kind, key = kinds[field.name], f"{prefix}{field.name}"
        described: Schema = {} if (told := _description(key)) is None else {"description": told}
        described |= _of(kind, key, with_defaults=with_defaults and not kind.is_overlay)
        if _has_no_default(field):
            needed += [] if in_part else [field.name]
        elif with_defaults and kind.section is None:
            described["default"] = written(_default(field))
        properties[field.name] = described
    made: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return made | ({"required": needed} if needed else {})


def _of(kind: Kind, key: str, *, with_defaults: bool) -> Schema:
    """The schema of what may stand behind a key."""
    if kind.section is not None:
        made = _section(kind.section, f"{key}.", with_defaults=with_defaults, in_part=kind.is_overlay)
        made |= {"type": ["object", "null"]}
        return made if kind.word is None else {"anyOf": [{"const": kind.word}, made]}
    if kind.is_list:
        return {"type": ["array", "null"], "items": _item(kind.item, key)}
    made = _PARSED[kind.bare] if kind.reads_itself else _leaf(kind)
    if not kind.nullable:
        return dict(made)
    return {"anyOf": [*made["anyOf"], {"type": "null"}]} if "anyOf" in made else _or_null(made)


def _item(kind: Kind, key: str) -> Schema:
    if kind.section is not None:
        return _section(kind.section, f"{key}[].", with_defaults=True)
    return _of(kind, key, with_defaults=True)


def _leaf(kind: Kind) -> Schema:
    """The schema of a value of one of `convert.SHAPES`, or of an enum of words."""
    leaf, bounds = kind.bare, kind.bounds or Range()
    shape_of(leaf)
    if issubclass(leaf, Enum):
        words = [str(member.value) for member in leaf]
        # A word that looks like a number is that word as well: 1.3 is "1.3".
        return {"enum": [*words, *(float(word) for word in words if word.replace(".", "").isdigit())]}
    if leaf is Seconds:
        is_more_than_0 = bounds.least is not None and bounds.least > 0
        pattern = rf"^{'(?=.*[1-9])' if is_more_than_0 else ''}[0-9]{{1,30}}(\.[0-9]{{1,30}})?(ms|s|m|h)$"
        told: Schema = {"type": "string", "pattern": pattern}
        return told if is_more_than_0 else {"anyOf": [told, {"const": 0}]}
    if leaf is Bytes:
        least = Range(max(0, bounds.least or 0), bounds.most)
        size: Schema = {"type": "string", "pattern": "^[0-9]{1,30}(KiB|MiB|GiB)?$"}
        return {"anyOf": [size, {"type": "integer", **_within(least)}]}
    if leaf is Endpoint:
        pattern = r"^(\[[0-9A-Fa-f:.]+\]|localhost|[0-9.]+):[0-9]{1,5}$"
        return {"type": "string", "pattern": pattern}
    if leaf is str:
        # 5, 1.2 and true are text where text is expected.
        return {"type": ["string", "number", "boolean"], "pattern": _TEXT}
    return {"type": {bool: "boolean", int: "integer", float: "number"}[leaf], **_within(bounds)}


def _or_null(made: Schema) -> Schema:
    if "enum" in made:
        return {"enum": [*made["enum"], None]}
    kinds = made["type"]
    return made | {"type": [*(kinds if isinstance(kinds, list) else [kinds]), "null"]}


def _within(bounds: Range) -> Schema:
    told = {"minimum": bounds.least, "maximum": bounds.most}
    return {name: bound for name, bound in told.items() if bound is not None}


def _matching(pattern: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$"}


def _listed(word: str, number: Schema, pattern: str) -> Schema:
    """A word, or a list of numbers and of ranges of them."""
    item = {"anyOf": [{"type": "integer", **number}, _matching(pattern)]}
    return {"anyOf": [{"const": word}, {"type": "array", "items": item}]}


# The types that read themselves, each by the form that its `parse` takes.
_PARSED: dict[Any, Schema] = {
    CircuitKey: _matching(r"(host|path|path:[1-9][0-9]?|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+)"),
    HostPattern: _matching(r"(\*|(\*\.)?[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"),
    Network: _matching("[0-9A-Fa-f:./]+"),
    PathPrefix: _matching(_PATH),
    Ports: _listed("any", {"minimum": 1, "maximum": 65535}, "[0-9]{1,5}(-[0-9]{1,5})?"),
    RedirectUrl: _matching(r"https?://[^/?#{}]+([/?][!\"$-~]*)?"),
    Statuses: _listed("none", {"minimum": 200, "maximum": 999}, "[2-9][0-9]{2}(-[2-9][0-9]{2})?"),
    UpstreamUrl: _matching(rf"https?://[^/?#]*[^/?#:]({_PATH})?"),
}


def _has_no_default(field: "Field[Any]") -> bool:
    return field.default is field.default_factory is MISSING


def _default(field: "Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


@cache
def _descriptions() -> dict[str, str]:
    found: dict[str, str] = json.loads(_DESCRIPTIONS.read_text(encoding="utf-8"))
    return found


def _description(key: str) -> str | None:
    """What a key means, under `upstreams` as elsewhere."""
    found = _descriptions()
    return found.get(key) or found.get(key.removeprefix("upstreams[]."))
