"""The operations on deferred requests: what they may change they change by POST or DELETE."""

from support.api import AdminPort

from proxy.control.deferred_operations import ROOT, operations
from proxy.control.steering import Wish


def test_what_changes_something_is_no_get_and_takes_json_or_is_a_delete() -> None:
    found = {each.name: each for each in operations(AdminPort().api.deferred)}
    assert len(found) == 10
    for name, each in found.items():
        assert each.path.startswith(ROOT)
        assert 404 in each.refusals
        assert 503 in each.refusals
        is_question = name.startswith(("get_", "list_", "export_"))
        assert (each.method == "GET") is is_question
        # A page of another origin could send a POST without JSON.
        if each.method == "POST":
            assert issubclass(each.takes, Wish)
