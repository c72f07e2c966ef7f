"""Servers to be measured: each in a process of its own, on one core."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cpu_s(pid: int) -> float:
    """The CPU time that the main thread of a process has taken."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


@contextmanager
def process(*command: str, core: int) -> Iterator[tuple[int, int]]:
    """Runs a server on one core; gives its process and its port, which it prints."""
    running = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)  # noqa: S603 -- ours
    try:
        os.sched_setaffinity(running.pid, {core})
        if running.stdout is None:
            raise RuntimeError("no output")
        for line in running.stdout:
            if line.strip().isdigit():
                yield running.pid, int(line)
                break
            told = json.loads(line)
            if told["event"] == "started":
                yield running.pid, int(told["proxy"].rpartition(":")[2])
                break
    finally:
        running.terminate()
        running.communicate()
