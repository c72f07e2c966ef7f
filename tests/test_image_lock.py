"""What the image is made of: pinned, with hashes, fitting pyproject.toml, and from nowhere in particular."""

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.process import ROOT

LOCKS = ("build", "run")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
NEEDED = [
    *(("build", line) for line in PROJECT["build-system"]["requires"]),
    *(
        ("run", line)
        for line in (*PROJECT["project"]["dependencies"], *EXTRAS["terminal"], *EXTRAS["intercept"])
    ),
]


def text_of(lock: str) -> str:
    return (ROOT / "deploy" / "image" / f"{lock}.lock").read_text(encoding="utf-8")


def pins(text: str) -> Iterator[tuple[Requirement, int]]:
    """Each package of a lock, with how many hashes it has."""
    for entry in text.replace("\\\n", " ").splitlines():
        line, *hashes = entry.split(" --hash=")
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", digest) for digest in hashes), entry
        yield Requirement(line), len(hashes)


@pytest.mark.parametrize(("lock", "line"), NEEDED)
def test_the_lock_has_what_the_project_needs(lock: str, line: str) -> None:
    """Where this fails, pyproject.toml has changed: `make lock`."""
    need = Requirement(line)
    pinned = {canonicalize_name(pin.name): pin for pin, _ in pins(text_of(lock))}
    assert canonicalize_name(need.name) in pinned
    (version,) = pinned[canonicalize_name(need.name)].specifier
    assert need.specifier.contains(version.version)


@pytest.mark.parametrize("lock", LOCKS)
def test_each_package_is_pinned_once_with_its_hashes(lock: str) -> None:
    found = list(pins(text_of(lock)))
    assert len({canonicalize_name(pin.name) for pin, _ in found}) == len(found) > 3
    for pin, hashes in found:
        assert [version.operator for version in pin.specifier] == ["=="], pin
        assert hashes > 0, pin


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_does_not_say_where_from(lock: str) -> None:
    assert not re.search(r"://|index|find-links|\s@\s", text_of(lock))
