"""A moment of the monotonic clock, told on the wall."""

from proxy.control.wall_time import WallTime


def test_a_moment_is_told_alike_each_time_until_somebody_sets_the_clock() -> None:
    now, wall = [100.0], [1000.0]
    iso = WallTime(lambda: now[0], lambda: wall[0])
    assert iso(90.0) == "1970-01-01T00:16:30.000+00:00"
    now[0], wall[0] = 200.0, 1100.4
    assert iso(90.0) == "1970-01-01T00:16:30.000+00:00"
    wall[0] += 3600
    assert iso(90.0) == "1970-01-01T01:16:30.400+00:00"
