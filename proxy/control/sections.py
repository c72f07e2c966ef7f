"""The nodes of one source held against the dataclasses of the settings, key by key and value by value.

The dataclasses and their type hints are the only list of keys. Each value is converted by itself, so that
every fault is found in one go, each with its place (msgspec stops at the first fault, and ignores keys that a
dataclass does not have). A setting may be a value of `convert.SHAPES`, an enum of words, a dataclass, a tuple
or frozenset of those, or `X | None`. A dataclass with a `WORD` may be written as that word: then nothing is
written in it. It may be an `Overlay` of a dataclass: of that only what is written is
kept. And it may be of a type that reads itself: its classmethod `parse` takes the scalar or the list, and
raises ValueError with what the user is to be told.

An empty section or list is the default, as if its key were absent. An alias is followed wherever it leads;
`yaml_source.py` has bounded that.
"""

import difflib
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from proxy.control.convert import SHAPES, Unfit, convert, shape_of, shortened, shown
from proxy.control.yaml_source import value_of
from proxy.core.overlay import Overlay
from proxy.core.quantities import Range


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with the configuration.

    Attributes:
        source: the path of the file, the environment variable, or the flag.
        line: of the file, from 1; None for the other sources, and where no line is to blame.
        key: dotted, items of a list as `[0]`; empty for the file as a whole.
        message: what was expected, and what came instead.
    """

    source: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What the type hint of a setting says.

    Attributes:
        bare: the type, without what stands around it.
        bounds: the range, if there is one.
        nullable: whether null is a value of its own.
    """

    bare: Any
    bounds: Range | None
    nullable: bool

    @property
    def reads_itself(self) -> bool:
        """Whether the type has a `parse` of its own."""
        return hasattr(self.bare, "parse")

    @property
    def is_overlay(self) -> bool:
        """Whether only what is written is kept."""
        return get_origin(self.bare) is Overlay

    @property
    def section(self) -> Any:
        """The dataclass whose fields are the keys; None if the setting is no section."""
        if self.is_overlay:
            return get_args(self.bare)[0]
        return (
            self.bare
            if is_dataclass(self.bare) and not self.reads_itself and self.bare not in SHAPES
            else None
        )

    @property
    def word(self) -> str | None:
        """The word that stands for the section with nothing written in it; None if it has none."""
        return getattr(self.section, "WORD", None)

    @property
    def is_list(self) -> bool:
        """Whether it is a list of values of one kind."""
        return get_origin(self.bare) in {tuple, frozenset}

    @property
    def item(self) -> "Kind":
        """Of what kind the items of a list are."""
        return _kind_of(get_args(self.bare)[0])


def _kind_of(hint: Any) -> Kind:
    bounds = None
    nullable = False
    while True:
        if get_origin(hint) is Annotated:
            hint, *notes = get_args(hint)
            bounds = next((note for note in notes if isinstance(note, Range)), bounds)
        elif get_origin(hint) in {Union, UnionType}:
            # Two types beside None cannot be told apart here; unpacking them fails, as it should.
            (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
            nullable = True
        else:
            return Kind(hint, bounds, nullable)


@cache
def kinds_of(section: type) -> dict[str, Kind]:
    """The keys of a section, a dataclass, each with its kind."""
    return {name: _kind_of(hint) for name, hint in get_type_hints(section, include_extras=True).items()}


@dataclass(slots=True)
class Walk:
    """One source on its way from nodes to values.

    Attributes:
        source: its name in faults.
        faults: what was found wrong, in the order of the walk.
        lines: the line of each key that was found, from 1; None if the source has no lines.
    """

    source: str
    faults: list[Fault] = field(default_factory=list)
    lines: dict[str, int | None] = field(default_factory=dict)

    def section(
        self, node: Node, section: type, prefix: str = "", *, in_part: bool = False
    ) -> dict[str, Any]:
        """The values that a node sets in a section, converted, in nested dictionaries and lists.

        Args:
            node: should be a mapping.
            section: a dataclass; its fields are the keys.
            prefix: the dotted key of the section; empty for the root.
            in_part: whether keys without a default may be absent as well.
        """
        if not isinstance(node, MappingNode):
            self._add_fault(node, prefix, f"expected keys with values, got {_seen(node)}")
            return {}
        kinds = kinds_of(section)
        values: dict[str, Any] = {}
        first_lines: dict[str, int | None] = {}
        for name_node, item in node.value:
            if not isinstance(name_node, ScalarNode):
                self._add_fault(name_node, prefix, f"expected a key, got {_seen(name_node)}")
                continue
            name: str = name_node.value
            key = _joined(prefix, name)
            if name not in kinds:
                self._add_fault(name_node, key, f"unknown key; {_suggestion(name, kinds)}")
            elif name in first_lines:
                self._add_fault(name_node, key, f"the key stands already on line {first_lines[name]}")
            else:
                first_lines[name] = self.lines[key] = _line(name_node)
                kind = kinds[name]
                is_default = _is_null(item) and not kind.nullable and (kind.section or kind.is_list)
                if not is_default:
                    values[name] = self._value(item, kind, key)
        for setting in () if in_part else fields(section):
            if setting.name not in first_lines and setting.default is setting.default_factory is MISSING:
                self._add_fault(node, _joined(prefix, setting.name), "this key is needed, it has no default")
        return values

    def _value(self, node: Node, kind: Kind, key: str) -> object:
        if kind.nullable and _is_null(node):
            return None
        if kind.section:
            if kind.word is not None and isinstance(node, ScalarNode) and node.value == kind.word:
                return {}
            return self.section(node, kind.section, key, in_part=kind.is_overlay)
        if kind.is_list:
            return self._items(node, kind.item, key)
        return self._parsed(node, kind, key) if kind.reads_itself else self._leaf(node, kind, key)

    def _items(self, node: Node, kind: Kind, key: str) -> list[object]:
        if not isinstance(node, SequenceNode):
            self._add_fault(node, key, f"expected a list, got {_seen(node)}")
            return []
        items = {f"{key}[{index}]": item for index, item in enumerate(node.value)}
        self.lines.update((place, _line(item)) for place, item in items.items())
        return [self._value(item, kind, place) for place, item in items.items()]

    def _parsed(self, node: Node, kind: Kind, key: str) -> object:
        try:
            return kind.bare.parse(_meant(node))
        except ValueError as error:
            self._add_fault(node, key, str(error))
            return None

    def _leaf(self, node: Node, kind: Kind, key: str) -> object:
        if not isinstance(node, ScalarNode):
            shape = shape_of(kind.bare)
            self._add_fault(node, key, f"expected {shape.noun}{shape.examples}, got {_seen(node)}")
            return None
        try:
            return convert(node.value, value_of(node), kind.bare, kind.bounds)
        except Unfit as error:
            self._add_fault(node, key, str(error))
            return None

    def _add_fault(self, node: Node, key: str, message: str) -> None:
        self.faults.append(Fault(self.source, _line(node), key, message))


def lay_over(values: dict[str, Any], upper: dict[str, Any]) -> None:
    """Lays the values of one source over those of others, in place, key by key; a list replaces a list."""
    for name, value in upper.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            lay_over(values[name], value)
        else:
            values[name] = value


def build(section: type, values: dict[str, Any]) -> Any:
    """Makes the section of the values that `Walk.section` found without a fault."""
    return section(**_all_built(section, values))


def _all_built(section: type, values: dict[str, Any], *, in_part: bool = False) -> dict[str, Any]:
    kinds = kinds_of(section)
    return {name: _built(value, kinds[name], in_part=in_part) for name, value in values.items()}


def _built(value: Any, kind: Kind, *, in_part: bool = False) -> Any:
    if isinstance(value, dict):
        # A section of an overlay is one as well: what is not written there stays as it is elsewhere.
        if in_part or kind.is_overlay:
            return Overlay(_all_built(kind.section, value, in_part=True))
        return build(kind.section, value)
    if isinstance(value, list):
        return get_origin(kind.bare)(_built(item, kind.item) for item in value)
    return value


def _suggestion(name: str, known: Iterable[str]) -> str:
    if similar := difflib.get_close_matches(shortened(name), known, n=1):
        return f"did you mean {similar[0]}?"
    return f"expected one of {', '.join(known)}"


def _joined(prefix: str, name: str) -> str:
    short = shortened(name)
    readable = short if short.isprintable() else repr(short)
    return f"{prefix}.{readable}" if prefix else readable


def _seen(node: Node) -> str:
    if isinstance(node, ScalarNode):
        return shown(node.value, value_of(node))
    return "a list" if isinstance(node, SequenceNode) else "keys with values"


@dataclass(frozen=True, slots=True, repr=False)
class _Odd:
    """What no type that reads itself can take; in the type's message it looks as in the file."""

    seen: str

    def __repr__(self) -> str:
        return self.seen


def _meant(node: Node) -> object:
    """What is given to a type that reads itself: text, a number, or a list of such."""
    if isinstance(node, SequenceNode):
        return [_meant(item) for item in node.value]
    value = value_of(node) if isinstance(node, ScalarNode) else None
    return _Odd(_seen(node)) if value is None or isinstance(value, bool) else value


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and value_of(node) is None


def _line(node: Node) -> int | None:
    return node.start_mark.line + 1 if node.start_mark else None
