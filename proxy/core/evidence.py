"""What a closed circuit has seen since it closed, and the rules by which that opens it.

A new rule is a method here, a trigger in `states.py`, and a line in the model of the tests.
"""

from proxy.core.outcome import Effect
from proxy.core.policy import CircuitPolicy
from proxy.core.states import Trigger
from proxy.core.window import Window

NEVER = float("-inf")


class Evidence:
    """The run of failures, the window, and the upstream's latest wish to be left alone.

    Attributes:
        run: failures in a row.
        retry_after_at: until when the upstream wants to be left alone, in monotonic seconds, by its latest
            failed or throttled answer.
    """

    __slots__ = ("_silent_endpoints", "retry_after_at", "run", "window")

    def __init__(self, window_s: float) -> None:
        self.window = Window(window_s)
        self.run = 0
        self.retry_after_at = NEVER
        self._silent_endpoints: set[str] = set()

    def clear(self) -> None:
        """Forgets everything."""
        self.window.clear()
        self._clear_run()
        self.retry_after_at = NEVER

    def add(
        self, effect: Effect, policy: CircuitPolicy, now: float, *, slow: bool, upstream_s: float
    ) -> Trigger | None:
        """Books a call; returns the rule that opens the circuit now, if one does."""
        self.window.add(now, failed=effect.failed, slow=slow, upstream_s=upstream_s)
        if effect.run is None:
            self._clear_run()
        elif effect.run:
            self.run += effect.run
            if self._is_run_too_long(policy):
                return Trigger.CONSECUTIVE_FAILURES
        if not policy.min_calls:
            return None
        if policy.failure_ratio and self.window.failed_at_least(policy.failure_ratio, policy.min_calls, now):
            return Trigger.FAILURE_RATIO
        if policy.slow_ratio and self.window.slow_at_least(policy.slow_ratio, policy.min_calls, now):
            return Trigger.SLOW_RATIO
        return None

    def add_silence(self, endpoint: str, policy: CircuitPolicy) -> Trigger | None:
        """Books in a host's run that one of its endpoints fell silent; returns the rule that opens it.

        One broken endpoint counts once a run, however often it is called: only several make the host suspect.
        """
        # Without the rule there is no end to the run, and nothing may grow without bound.
        if policy.consecutive_failures and endpoint not in self._silent_endpoints:
            self._silent_endpoints.add(endpoint)
            self.run += 1
            if self._is_run_too_long(policy):
                return Trigger.CONSECUTIVE_FAILURES
        return None

    def _is_run_too_long(self, policy: CircuitPolicy) -> bool:
        return 0 < policy.consecutive_failures <= self.run

    def _clear_run(self) -> None:
        self.run = 0
        if self._silent_endpoints:
            self._silent_endpoints.clear()
