"""A network of its own for a test: addresses that machines have, and no way to any other machine."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000  # <linux/sched.h>


@contextmanager
def network(*addresses: str) -> Iterator[None]:
    """Moves this thread, and what it starts from now on, into a network namespace; then back.

    Args:
        addresses: that this machine has there, beside those of loopback.

    Raises:
        OSError: only root may do this.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    with Path("/proc/thread-self/ns/net").open("rb") as home:
        check(libc.unshare(_CLONE_NEWNET))
        try:
            _ip("link", "set", "lo", "up")
            for address in addresses:
                # An IPv6 address cannot be bound to until the kernel has seen that nobody else has it.
                rest = ("128", "nodad") if ":" in address else ("32",)
                _ip("address", "add", f"{address}/{rest[0]}", "dev", "lo", *rest[1:])
            yield
        finally:
            check(libc.setns(home.fileno(), _CLONE_NEWNET))


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
