"""What the command line knows of deferred requests before it asks is what the API says."""

from proxy.commands import deferred_options
from proxy.control import deferred_queries
from proxy.control.deferred_views import Standing


def test_its_words_are_those_of_the_api() -> None:
    assert {each.value for each in Standing} == set(deferred_options.STATES)
    assert deferred_options.LONGEST_QUEUE == deferred_queries.LONGEST_QUEUE
    assert deferred_queries.ONE.schema["pattern"] == f"^{deferred_options.ID.pattern}$"
