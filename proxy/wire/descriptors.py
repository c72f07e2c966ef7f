"""How many descriptors the process may have open."""

import resource
from contextlib import suppress

# What is taken for "no limit": far more than any limits of ours need.
_PLENTY = 2**30


def raise_limit() -> int:
    """Raises the soft limit to the hard one, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Costs nothing: the kernel grows a process's table by what is open.
        with suppress(OSError, ValueError):  # macOS has a hard limit that may not be asked for
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return _PLENTY if soft == resource.RLIM_INFINITY else soft
