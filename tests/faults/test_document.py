"""docs/errors.md is what document.py makes of the matrix, and it is complete."""

import pytest
from faults.advice import ADVICE
from faults.document import PAGE, page, reasons, told

from proxy.core.exchange import Entry


def test_the_page_is_what_the_script_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run make errors, and look at it"


def test_every_reason_has_advice_and_is_provoked() -> None:
    assert sorted(reasons()) == sorted(ADVICE)
    assert [reason for reason in ADVICE if not told(reason)] == []


@pytest.mark.parametrize("reason", ADVICE)
def test_every_cell_is_what_the_product_says_of_its_reason(reason: str) -> None:
    """The page takes statuses and phrases from the product, the rest from the matrix."""
    errors = reasons()[reason]
    for entry, cell in told(reason):
        assert cell.error in {error.error_type for error in errors}
        if isinstance(cell.gets, int):
            is_tunnel = entry is Entry.TUNNEL
            assert cell.gets in {error.connect_status if is_tunnel else error.status for error in errors}
