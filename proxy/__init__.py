"""breaker-proxy: an HTTP proxy that keeps a circuit breaker for each upstream host."""

__version__ = "0.1.0"
