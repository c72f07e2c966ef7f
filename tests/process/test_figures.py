"""What the API tells of an upstream that falls silent is what its callers have seen."""

import json
from time import monotonic
from typing import Any

from support.outage import silent_upstream
from support.process import RunningProxy, get

HEAD_S = 0.3
# Both clocks are the same; figures are told to the millisecond.
ROUNDED_S = 0.001
FAILURES, REFUSALS = 3, 4


def listed(proxy: RunningProxy) -> Any:
    return json.loads(proxy.admin("/api/v1/circuits").content)


def test_a_silent_upstream_has_the_latency_that_was_waited_for_and_refusals_spare_as_much() -> None:
    circuit = {"consecutive_failures": FAILURES, "open": "5m", "slow_call": "200ms"}
    with silent_upstream() as authority, RunningProxy(circuit=circuit, timeouts={"head": "300ms"}) as proxy:
        waited_s = []
        for number in range(FAILURES):
            began = monotonic()
            assert get(proxy.proxy_port, f"http://{authority}/{number}").status == 504
            waited_s.append(monotonic() - began)
            (seen,) = listed(proxy)["circuits"]
            if number < FAILURES - 1:
                count = number + 1
                assert HEAD_S <= seen["latency_s"] <= sum(waited_s) / count + ROUNDED_S
                for name in ("calls", "failed", "slow"):
                    assert sum(part[name] for part in seen["window"]) == count
                assert len(seen["window"]) == 10
                assert seen["spared_s"] == 0.0
        # The window began anew with the transition.
        assert (seen["state"], seen["latency_s"]) == ("open", None)
        before = listed(proxy)
        for number in range(REFUSALS):
            assert get(proxy.proxy_port, f"http://{authority}/{number}").status == 503
        after = listed(proxy)
        (seen,) = after["circuits"]
        mean_s = sum(waited_s) / FAILURES
        assert HEAD_S * REFUSALS <= seen["spared_s"] <= mean_s * REFUSALS + ROUNDED_S
        assert after["spared_s"] - before["spared_s"] == seen["spared_s"]
        assert after["rejected"] - before["rejected"] == seen["rejected"] == REFUSALS
        assert (after["in_flight"], after["failed"]) == (0, FAILURES)
        assert before["at"] < after["at"]
