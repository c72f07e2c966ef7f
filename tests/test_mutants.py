"""Whether the rows of `make mutants` are about the code as it is: it takes minutes, this no time."""

import ast

import pytest
from mutants.run import CORE, MUTANTS, ROOT, Mutant, planted


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.trap)
def test_the_code_of_a_row_is_there_once_and_stays_python_with_its_bug(mutant: Mutant) -> None:
    ast.parse(planted(mutant, ROOT))


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.by], ids=lambda mutant: mutant.trap)
def test_the_test_that_a_row_names_is_there(mutant: Mutant) -> None:
    file, part = mutant.by.split("::")
    assert part in (ROOT / CORE / file).read_text()


def test_code_that_is_not_there_is_told() -> None:
    gone = Mutant("a trap", "registry.py", "no such code", "")
    with pytest.raises(SystemExit, match=r"a trap: its code is 0 times in registry\.py"):
        planted(gone, ROOT)
