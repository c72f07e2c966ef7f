"""The text of a configuration file as a tree of YAML nodes, each with its line.

Only the part of YAML that a configuration needs: one document, and plain words that mean what they seem to.
`true` and `false` are booleans (`on`, `off`, `yes`, `no` are words), numbers are plain decimal, and `null`,
`~` or nothing is null. Tags are refused. Anchors and aliases are allowed; what they expand to is bounded, as
is everything else, so that no file can hold the process up.

What the keys mean is the business of `config.py`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yaml.composer import Composer
from yaml.error import MarkedYAMLError, YAMLError
from yaml.events import AliasEvent
from yaml.nodes import Node, ScalarNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

MAX_FILE_BYTES = 1024 * 1024
# Far beyond what any file needs: keys, values and containers, each alias counted as all it stands for.
MAX_NODES = 100_000
# PyYAML composes recursively; this stays well within Python's own limit.
MAX_DEPTH = 32

# A problem as PyYAML words it may quote an anchor or the handle of a tag.
_MAX_PROBLEM = 80

Scalar = str | int | float | bool | None

# The types that a plain word may have by its looks, and what it means then; anything else is text. YAML 1.2
# section 10.3.2 (core schema), less than it allows: no octal, hexadecimal, exponent, infinity, nor a leading
# zero, which YAML 1.1 reads as octal. 18 digits fit into 64 bits, and into a float that is finite.
_PLAIN_WORDS: dict[str, tuple[re.Pattern[str], Callable[[str], Scalar]]] = {
    "tag:yaml.org,2002:int": (re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z"), int),
    "tag:yaml.org,2002:float": (re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}\Z"), float),
    "tag:yaml.org,2002:bool": (re.compile(r"(?:true|false)\Z"), lambda word: word == "true"),
    "tag:yaml.org,2002:null": (re.compile(r"(?:null|~|)\Z"), lambda _: None),
}


class Unreadable(Exception):
    """A file that yields no nodes at all.

    Attributes:
        line: where reading stopped, from 1; None if it did not get that far.
        message: what is wrong with the file.
    """

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Words(BaseResolver):
    """Tells the type of a plain scalar."""


for _tag, (_pattern, _) in _PLAIN_WORDS.items():
    _Words.add_implicit_resolver(_tag, _pattern, None)  # None: whatever the first character


class _Loader(Reader, Scanner, Parser, Composer, _Words):
    """Composes nodes within the bounds; constructs nothing."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Words.__init__(self)
        self._depth = 0
        self._nodes = 0
        # How many nodes each finished anchor stands for; one that has begun and is missing here is open.
        self._anchored_nodes: dict[str | None, int] = {}

    def next_event(self) -> tuple[Any, int]:
        """The event that comes next, and the line where it begins, from 1."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        return event, event.start_mark.line + 1

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Composes one node and all below it.

        Raises:
            Unreadable: for a bound that is passed, a tag, or an alias inside its own anchor.
            YAMLError: for bad syntax.
        """
        event, line = self.next_event()
        nodes_before = self._nodes
        self._nodes += 1
        if isinstance(event, AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._anchored_nodes:
                raise Unreadable(line, f"the alias *{event.anchor:.60} stands inside its own anchor")
            self._nodes += self._anchored_nodes.get(event.anchor, 0)
        elif event.tag not in {None, "!"}:
            raise Unreadable(line, "a tag stands before a value; leave it out, the key says which type it is")
        if self._nodes > MAX_NODES:
            raise Unreadable(line, f"more than {MAX_NODES} values, each alias counted as all it stands for")
        if self._depth == MAX_DEPTH:
            raise Unreadable(line, f"nested more than {MAX_DEPTH} deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None and not isinstance(event, AliasEvent):
            self._anchored_nodes[event.anchor] = self._nodes - nodes_before
        return node


def read(path: Path) -> Node | None:
    """The root node of a file, None if nothing stands in it.

    Raises:
        Unreadable: if it cannot be opened, is larger than `MAX_FILE_BYTES`, or is not one YAML document.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unreadable(None, f"cannot be read: {error.strerror or type(error).__name__}") from error
    except ValueError as error:  # a NUL in the path
        raise Unreadable(None, f"cannot be read: {error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise Unreadable(None, "the file is larger than 1 MiB")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(line, "the file is not UTF-8 text") from error
    return compose(text)


def compose(text: str) -> Node | None:
    """The root node of a text, None if nothing stands in it.

    Raises:
        Unreadable: if it is not one YAML document within the bounds.
    """
    loader: _Loader | None = None
    line: int | None
    try:
        loader = _Loader(text)
        root = loader.get_node() if loader.check_node() else None
        if loader.check_node():
            _, line = loader.next_event()
            raise Unreadable(line, "a second YAML document begins here; expected one")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        context = f" ({error.context:.{_MAX_PROBLEM}})" if error.context else ""
        if error.context == "while scanning an alias":
            context += '; put a value that begins with * in quotes, such as "*.example.com"'
        raise Unreadable(line, f"not valid YAML: {error.problem!s:.{_MAX_PROBLEM}}{context}") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, f"not valid YAML: the character U+{error.character:04X}") from error
    except (YAMLError, ValueError, OverflowError) as error:
        # PyYAML passes escapes such as "\UFFFFFFFF" and the digits of %YAML unchecked to chr() and int().
        line = loader.get_mark().line + 1 if loader else None
        raise Unreadable(line, "not valid YAML: a number or an escape out of range") from error
    return None if isinstance(root, ScalarNode) and value_of(root) is None else root


def plain(text: str) -> ScalarNode:
    """The node of a text that comes from outside the file, read as a plain word in it would be."""
    tag = _Words().resolve(ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # as above
    return ScalarNode(tag, text)


def value_of(node: ScalarNode) -> Scalar:
    """What a scalar means by itself, whatever is expected in its place."""
    text: str = node.value
    if node.tag in _PLAIN_WORDS:
        _, meaning = _PLAIN_WORDS[node.tag]
        return meaning(text)
    return text
