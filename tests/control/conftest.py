"""A stream to log to, and the lines that were written to it."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import structlog
from support.lines import Lines


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Leaves the logging of this process as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[BinaryIO]:
    with (tmp_path / "stdout").open("wb") as file:
        yield file


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    def read() -> list[dict[str, Any]]:
        content = (tmp_path / "stdout").read_bytes()
        assert content.isascii()
        assert content.endswith(b"\n") or not content
        return [json.loads(line) for line in content.decode().splitlines()]

    return read
