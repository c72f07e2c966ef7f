"""Settings for some upstreams only: what differs for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

Section = TypeVar("Section")


@dataclass(frozen=True)  # CPython 3.11 cannot make a generic one with slots
class Overlay(Generic[Section]):
    """The keys of a section that were written, to be laid over another section of the same class.

    The section's dataclass stays the only list of keys.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    def onto(self, base: Section) -> Section:
        """The section with what was written in place of the base's, key by key in sections of it as well."""
        if not self.values:
            return base
        laid = {
            name: value.onto(getattr(base, name)) if isinstance(value, Overlay) else value
            for name, value in self.values.items()
        }
        # A section is a dataclass; only typeshed has a name for what they all are.
        return cast("Section", replace(cast("Any", base), **laid))
