"""The isolation experiment, played in its short form: it plays to its end, and what must hold does."""

import subprocess
import sys

import pytest
from support.process import ROOT, environment

SOURCES = [str(ROOT / folder) for folder in ("bench", "tests", "docs")]
BEFORE = {path: path.read_bytes() for path in sorted((ROOT / "docs").glob("isolation.*"))}


# Three times as long as it takes.
LONGEST_S = 240.0


@pytest.mark.timeout(LONGEST_S + 60)
def test_what_must_hold_does(capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "isolation", "--short"],
        env=environment(PYTHONPATH=":".join(SOURCES)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as playing:
        try:
            told, progress = playing.communicate(timeout=LONGEST_S)
        finally:
            # Unlike a kill, which would leave all that it has started.
            playing.terminate()
    with capsys.disabled():
        sys.stdout.write(f"\n{told}")
    assert playing.returncode == 0, told + progress
    assert told.count("| yes |") == 8
    assert "of 30 s" in progress
    # It is not for the record.
    assert {path: path.read_bytes() for path in BEFORE} == BEFORE
