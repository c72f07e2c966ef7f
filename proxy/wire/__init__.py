"""Bytes: the listener, the upstream leg, and the line that every exchange walks (handler.py)."""
