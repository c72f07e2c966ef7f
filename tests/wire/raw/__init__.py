"""The table of raw bytes: what a client sends, and what must come of it upstream and back."""

from wire.raw.answers import ANSWERS, EARLY, UPLOAD, UPLOAD_SIZE
from wire.raw.fields import FIELDS
from wire.raw.framing import FRAMING
from wire.raw.inside import INSIDE
from wire.raw.pipelining import PIPELINING
from wire.raw.targets import TARGETS
from wire.raw.upgrades import UPGRADES

CASES = (*TARGETS, *FIELDS, *FRAMING, *PIPELINING, *INSIDE, *ANSWERS, *EARLY, *UPGRADES)
# What the upstream says in these is cut everywhere as well.
CUT_ANSWERS = ANSWERS

__all__ = ["CASES", "CUT_ANSWERS", "UPLOAD", "UPLOAD_SIZE"]
