"""The OpenAPI document is true: schemathesis holds the API of the real process against it.

All of it but the events, which have no end. It sends what fits the document and what does not, and looks
whether each is answered as described.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from support.process import RunningProxy, environment, get

TOKEN = "a-token-of-thirty-two-characters"
PATIENCE_S = 240


def schemathesis(proxy: RunningProxy, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            "run",
            f"http://127.0.0.1:{proxy.admin_port}/api/v1/openapi.json",
            "--checks=all",
            "--exclude-path=/api/v1/events",
            "--max-examples=100",
            "--generation-database=none",
            "--no-color",
            *options,
        ],
        cwd=folder,
        env=environment(NO_PROXY="*"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.timeout(PATIENCE_S + 10)
@pytest.mark.parametrize("with_token", [False, True], ids=["by this machine", "by token"])
def test_the_api_does_what_its_document_says(tmp_path: Path, *, with_token: bool) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    settings = {"token_file": str(file)} if with_token else {}
    options = (f"--header=Authorization: Bearer {TOKEN}",) if with_token else ()
    with RunningProxy(admin=settings, defer={"path": str(tmp_path / "deferred.db")}) as proxy:
        done = schemathesis(proxy, tmp_path, *options)
        assert done.returncode == 0, done.stdout
        assert "18 selected / 19 total" in done.stdout
        assert proxy.admin("/livez").status == 200
        # It also tries what is no HTTP at all; of that aiohttp writes a line. Nothing else is a fault.
        lines = [line for line in proxy.lines if line["level"] == "error"]
        assert [line for line in lines if "exception" in line] == []
        proxy.lines[:] = [line for line in proxy.lines if line.get("logger") != "aiohttp.server"]


def test_the_document_can_be_had_by_those_who_may_call_only(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with RunningProxy(admin={"token_file": str(file)}) as proxy:
        assert get(proxy.admin_port, "/api/v1/openapi.json").status == 401
