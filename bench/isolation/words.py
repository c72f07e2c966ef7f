"""How figures are written, in tables and verdicts alike."""

from isolation.figures import Figures


def percent(share: float) -> str:
    """A share, to a tenth of a percent."""
    return f"{100 * share:.1f} %"


def fewer(share: float) -> str:
    """By how much fewer; also where it is more."""
    return percent(share) if share >= 0 else f"{percent(-share)} more"


def back(figures: Figures) -> str:
    """When the recovered endpoint had traffic again."""
    return "not in the run" if figures.recovery_s is None else f"{figures.recovery_s:.1f} s"
