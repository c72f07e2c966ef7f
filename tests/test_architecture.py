"""The rules of the tree: who may import whom, where tests stand, and how large and how named modules are.

Each rule is a function from source text to faults; each has a test that it holds, and one that it can fail.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("core", "wire", "control")
MAX_LINES = 350

# What each part of the package may import of the others; "" is the package itself (its version).
# core decides, wire carries bytes, control shows and steers; app.py alone knows all three, with what it
# makes at the start and at each reload.
MAY_IMPORT = {
    "core": set[str](),
    "wire": {"", "core", "regular_file"},
    "control": {"", "core", "regular_file"},
    "store": {"", "core"},
    "app": {"", "core", "wire", "control", "store", "files", "provisions", "deferral"},
    "running": {"wire", "control", "app"},
    "deferral": {"", "core", "wire", "control", "store"},
    "provisions": {"", "core", "wire", "files"},
    "files": {"", "core", "wire", "control", "store"},
    "regular_file": set(),
    "cli": {"", "core", "control", "app", "running", "commands", "demo", "files"},
    # What a proxy does, they learn from its answers; only where it is, from its configuration.
    "commands": {"", "core", "control", "regular_file"},
    "demo": {"", "core", "control", "app"},
    "livez": set(),
    "__main__": {"cli"},
    "__init__": set(),
}

# core knows no I/O, no clock and no chance: time is an argument, in monotonic seconds.
NOT_IN_CORE = {
    "asyncio",
    "concurrent",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
}
CLOCKS = {"localtime", "monotonic", "monotonic_ns", "now", "perf_counter", "time_ns", "today", "utcnow"}
# Modules without a test of their own, and why.
WITHOUT_TWIN = {
    "control/convert.py": "a step of config.load, tested through it in test_config.py",
    "control/families.py": "a prefix before names, tested through both tests of metrics",
    "control/yaml_source.py": "a step of config.load, tested through it in test_config.py",
    "wire/data_plane.py": "all of tests/wire run it; that it hands settings on, tests/wire/test_adoption.py",
    "wire/unsent.py": "what it is for is tested in test_last_bytes.py and test_back_pressure.py",
}
# Modules that are longer than MAX_LINES: up to how many lines, and why.
LONGER = {
    "core/breaker.py": (490, "one state machine, read in one go"),
    "core/errors.py": (400, "one tree, a few lines for each class"),
    "wire/client.py": (435, "one subclass of aiohttp's, whose every method works on the same connection"),
    "wire/tls.py": (450, "one connection: the protocol of its one side and the transport of the other"),
}
NO_NAMES = {"helper", "helpers", "manager", "managers", "util", "utils"}


def part_of(module: str) -> str:
    """The part of the package that a module belongs to: a layer, or a module beside them."""
    _, _, below = module.partition(".")
    return below.partition(".")[0]


def imported(source: str, parts: set[str]) -> Iterator[str]:
    """The modules that a source imports, by their full names, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level + (node.module or "")
            elif node.module == "proxy":
                # A part, or a name that __init__.py has.
                yield from (f"proxy.{a.name}" if a.name in parts else "proxy" for a in node.names)
            else:
                yield node.module or ""


def faults_of_layering(part: str, source: str) -> list[str]:
    """What a source of this part imports and should not."""
    faults = []
    for module in imported(source, set(MAY_IMPORT)):
        top = module.partition(".")[0]
        if not top:
            faults.append(f"relative import {module}")
        elif top == "proxy":
            other = part_of(module)
            if other != part and other not in MAY_IMPORT[part]:
                faults.append(f"{part} imports {module}")
        elif part == "core" and (top not in sys.stdlib_module_names or top in NOT_IN_CORE):
            faults.append(f"core imports {module}")
    return faults


def faults_of_purity(source: str) -> list[str]:
    """Where a source reads a clock, a file or the terminal without importing anything for it."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in CLOCKS:
                faults.append(f"line {node.lineno} reads a clock: {ast.unparse(called)}")
            if isinstance(called, ast.Name) and called.id in {"__import__", "input", "open", "print"}:
                faults.append(f"line {node.lineno} calls {called.id}")
        if isinstance(node, ast.AsyncFunctionDef | ast.Await):
            faults.append(f"line {node.lineno} is asynchronous")
    return faults


def faults_of_naming(module: str, source: str) -> list[str]:
    """Names of a module, its classes and functions that say nothing of what the thing is for."""
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    names = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, definitions)]
    return [name for name in (*module.split("."), *names) if NO_NAMES & set(words(name))]


def words(name: str) -> list[str]:
    """The words of a name in snake_case or CamelCase, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def faults_of_length(path: str, source: str) -> list[str]:
    """Whether a module is too long to be read in one go, or is excused and need not be."""
    lines = len(source.splitlines())
    most, _ = LONGER.get(path, (MAX_LINES, ""))
    if lines > most:
        return [f"{lines} lines, at most {most}"]
    return ["take it out of LONGER"] if path in LONGER and lines <= MAX_LINES else []


def missing_twins(modules: set[str], tests: set[str]) -> set[str]:
    """The modules (`core/breaker.py`) whose test (`core/test_breaker.py`) is not there."""
    return {module for module in modules if twin(module) not in tests}


def twin(module: str) -> str:
    """Where the test of a module stands."""
    folder, _, name = module.rpartition("/")
    return f"{folder}/test_{name}"


def files(folder: Path, pattern: str) -> set[str]:
    """The files below a folder, by their paths relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}


MODULES = sorted(files(ROOT / "proxy", "*.py"))
each_module = pytest.mark.parametrize("path", MODULES)


def source_of(path: str) -> str:
    return (ROOT / "proxy" / path).read_text(encoding="utf-8")


def test_the_modules_are_found() -> None:
    assert {"__init__.py", "app.py", "core/breaker.py", "wire/handler.py"} <= set(MODULES)


@each_module
def test_layering(path: str) -> None:
    part = path.partition("/")[0].removesuffix(".py")
    assert part in MAY_IMPORT, "say in MAY_IMPORT what the new part may import"
    assert faults_of_layering(part, source_of(path)) == []


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("core", "import aiohttp"),
        ("core", "from aiohttp import web"),
        ("core", "import asyncio"),
        ("core", "import time"),
        ("core", "from time import monotonic"),
        ("core", "import random"),
        ("core", "import socket"),
        ("core", "import logging.handlers"),
        ("core", "from os import path"),
        ("core", "from proxy.wire.pool import Pool"),
        ("core", "from proxy.control import log"),
        ("core", "from proxy import app"),
        ("core", "from proxy import __version__"),
        ("core", "import proxy"),
        ("core", "def late():\n    import time"),
        ("core", "if True:\n    from proxy.wire import pool"),
        ("core", "from .outcome import NEUTRAL"),
        ("core", "from ..wire import pool"),
        ("wire", "from proxy.control.metrics import Metrics"),
        ("wire", "from proxy import control"),
        ("wire", "import proxy.control.metrics as metrics"),
        ("wire", "from proxy.app import Sidecar"),
        ("wire", "import proxy.cli"),
        ("wire", "from proxy.demo import demo"),
        ("wire", "from proxy.store import Deferred"),
        ("control", "from proxy.wire.pool import Pool"),
        ("control", "from proxy import wire"),
        ("control", "from proxy import core, wire"),
        ("control", "from proxy.app import Sidecar"),
        ("control", "from proxy.cli import main"),
        ("cli", "from proxy.wire.listener import Listener"),
        ("commands", "from proxy.app import run"),
        ("commands", "from proxy.wire.listener import Listener"),
        ("control", "from proxy.commands import admin"),
        ("demo", "from proxy.wire.listener import Listener"),
        ("app", "from proxy.cli import main"),
        ("__main__", "from proxy.app import run"),
    ],
)
def test_layering_can_be_broken(part: str, source: str) -> None:
    assert len(faults_of_layering(part, source)) == 1


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("core", "import re\nfrom collections.abc import Callable\nfrom proxy.core import errors"),
        ("core", "from datetime import datetime"),
        (
            "wire",
            "import asyncio\nimport aiohttp\nfrom proxy.core import errors\nfrom proxy.wire import pool",
        ),
        ("control", "from proxy import __version__, core\nfrom proxy.control.config import load"),
        (
            "app",
            "from proxy.control import log\nfrom proxy.wire.pool import Pool\nfrom proxy.core import errors",
        ),
        (
            "cli",
            "from proxy import __version__\nfrom proxy.app import run\nfrom proxy.control.config import load",
        ),
    ],
)
def test_layering_allows_the_rest(part: str, source: str) -> None:
    assert faults_of_layering(part, source) == []


@pytest.mark.parametrize("path", [path for path in MODULES if path.startswith("core/")])
def test_purity_of_core(path: str) -> None:
    assert faults_of_purity(source_of(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "datetime.now()",
        "datetime.datetime.now(UTC)",
        "datetime.utcnow()",
        "date.today()",
        "self.clock.monotonic()",
        "open('state')",
        "print(1)",
        "__import__('time')",
        "async def late(): ...",
    ],
)
def test_purity_can_be_broken(source: str) -> None:
    assert len(faults_of_purity(source)) == 1


@pytest.mark.parametrize(
    "source", ["def admit(now): return now + 1", "circuit.open(now)", "self.now", "transition.time_s()"]
)
def test_purity_allows_the_rest(source: str) -> None:
    assert faults_of_purity(source) == []


@each_module
def test_naming(path: str) -> None:
    assert faults_of_naming(path.removesuffix(".py").replace("/", "."), source_of(path)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("wire.utils", ""),
        ("wire.http_util", ""),
        ("utils.strings", ""),
        ("wire.pool", "class ConnectionManager: ..."),
        ("wire.pool", "class Pool:\n    class Helper: ..."),
        ("wire.pool", "class HTTPHelpers: ..."),
        ("wire.pool", "def _parse_helper(): ..."),
        ("wire.pool", "async def manager(): ..."),
        ("wire.pool", "class Pool:\n    def util(self): ..."),
    ],
)
def test_naming_can_be_broken(module: str, source: str) -> None:
    assert len(faults_of_naming(module, source)) == 1


@pytest.mark.parametrize(
    "source", ["def utilization(): ...", "def managed(): ...", "@contextmanager\ndef f(): ..."]
)
def test_naming_allows_the_rest(source: str) -> None:
    assert faults_of_naming("wire.pool", source) == []


@each_module
def test_length(path: str) -> None:
    assert faults_of_length(path, source_of(path)) == []


def test_the_longer_ones_are_there() -> None:
    assert set(LONGER) <= set(MODULES), "take what is gone out of LONGER"


@pytest.mark.parametrize(
    ("path", "lines", "faults"),
    [
        ("wire/pool.py", 350, []),
        ("wire/pool.py", 351, ["351 lines, at most 350"]),
        ("core/breaker.py", 350, ["take it out of LONGER"]),
        ("core/breaker.py", 351, []),
        ("core/breaker.py", 490, []),
        ("core/breaker.py", 491, ["491 lines, at most 490"]),
    ],
)
def test_length_can_be_broken(path: str, lines: int, faults: list[str]) -> None:
    assert faults_of_length(path, "pass\n" * lines) == faults


@pytest.mark.parametrize("layer", LAYERS)
def test_twins(layer: str) -> None:
    modules = {path for path in MODULES if path.startswith(f"{layer}/") and not path.endswith("__init__.py")}
    assert modules
    missing = missing_twins(modules, files(ROOT / "tests", "test_*.py"))
    excused = {path for path in WITHOUT_TWIN if path.startswith(f"{layer}/")}
    assert missing - excused == set()
    assert excused - missing == set(), "take what has a twin now, or is gone, out of WITHOUT_TWIN"


def test_every_module_is_named_in_the_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = {path.relative_to(ROOT / "proxy").as_posix() for path in (ROOT / "proxy").rglob("*.py")}
    assert {name for name in modules if "__" not in name and f"{name}`" not in page} == set()


def test_a_twin_can_be_missing() -> None:
    modules = {"core/breaker.py", "wire/pool.py", "wire/tls/certs.py"}
    tests = {"core/test_breaker.py", "core/test_pool.py", "wire/test_certs.py", "wire/pool.py"}
    assert missing_twins(modules, tests) == {"wire/pool.py", "wire/tls/certs.py"}
    assert missing_twins(modules, {*tests, "wire/test_pool.py", "wire/tls/test_certs.py"}) == set()
