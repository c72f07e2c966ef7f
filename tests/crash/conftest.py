"""How often the process is killed: a few times in the suite, as often as asked with `--crashes`."""

import random

import pytest

_IN_THE_SUITE = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options of `make crash`."""
    parser.addoption("--crashes", type=int, default=_IN_THE_SUITE, help="how often the process is killed")
    parser.addoption("--crash-seed", type=int, default=None, help="when it is; drawn and told without one")


@pytest.fixture
def crashes(pytestconfig: pytest.Config) -> int:
    """How often the process is killed."""
    return int(pytestconfig.getoption("--crashes", _IN_THE_SUITE))


@pytest.fixture
def draw(pytestconfig: pytest.Config) -> random.Random:
    """Says when; its seed is written down, and shown where the test fails."""
    seed = pytestconfig.getoption("--crash-seed", None)
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    print(f"--crash-seed {seed}")  # noqa: T201 -- pytest shows it with a failure
    return random.Random(seed)  # noqa: S311 -- when a process dies is no secret
