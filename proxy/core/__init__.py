"""Decisions: no I/O, no clock, no asyncio. Time is an argument, in monotonic seconds.

Only the standard library is imported here (tests/test_architecture.py enforces it).
"""
