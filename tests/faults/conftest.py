"""The faults are provoked on both event loops, and nothing may be left over after any of them."""

from wire.conftest import anyio_backend, start

# pytest finds fixtures by their names in a conftest.
__all__ = ["anyio_backend", "start"]
