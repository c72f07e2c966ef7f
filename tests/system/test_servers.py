"""The programs of others that tests run: what happens when they do not run to the end."""

import os
from pathlib import Path

import pytest
from support.process import until
from support.servers import ServerError, serving


def goes_too_early(folder: Path, *, is_up: bool) -> None:
    """Runs a program that ends by itself, before or after it has been seen to be up."""
    log, go = folder / "early.log", folder / "go"
    os.mkfifo(go)
    script = f"echo bye; read line < {go}; exit 3" if is_up else "echo bye; exit 3"
    with serving(["sh", "-c", script], log) as early:
        early.until(lambda: is_up and log.read_text() == "bye\n")
        go.write_text("go\n")
        until(lambda: early.has_ended, "it goes on")


@pytest.mark.parametrize(("is_up", "told"), [(False, "ended at its start"), (True, "ended by itself")])
def test_a_program_that_ends_early_is_told(told: str, tmp_path: Path, *, is_up: bool) -> None:
    with pytest.raises(ServerError, match=f"^early {told}, with 3\nbye$"):
        goes_too_early(tmp_path, is_up=is_up)
