"""How long things took, in buckets."""

from prometheus_client.core import HistogramMetricFamily

from proxy.control.durations import Durations


def test_a_duration_is_in_the_bucket_of_its_bound_and_all_above() -> None:
    durations = Durations((0.1, 1.0))
    for took_s in (0.1, 0.5, 7.0):
        durations.add(took_s)
    family = HistogramMetricFamily("took", "How long.", labels=["of"])
    durations.add_to(family, "it")
    assert [(each.name, each.labels.get("le"), each.value) for each in family.samples] == [
        ("took_bucket", "0.1", 1),
        ("took_bucket", "1.0", 2),
        ("took_bucket", "+Inf", 3),
        ("took_count", None, 3),
        ("took_sum", None, 7.6),
    ]
    assert durations.count == 3
