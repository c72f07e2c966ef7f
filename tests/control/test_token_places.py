"""Where a token of our own is left, which is where the command line looks for it."""

import tempfile
from pathlib import Path

import pytest

from proxy.control.token_places import places


@pytest.mark.parametrize("runtime_dir", ["", "relative", None])
def test_without_a_runtime_directory_it_is_in_the_temporary_one(runtime_dir: str | None) -> None:
    environ = {} if runtime_dir is None else {"XDG_RUNTIME_DIR": runtime_dir}
    expected = Path(tempfile.gettempdir(), "breaker-proxy", "admin-3129.token")
    assert list(places(3129, environ)) == [expected]


def test_the_runtime_directory_comes_first_and_each_port_has_its_own(tmp_path: Path) -> None:
    first, second = places(3130, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert first == tmp_path / "breaker-proxy" / "admin-3130.token"
    assert second == Path(tempfile.gettempdir(), "breaker-proxy", "admin-3130.token")
