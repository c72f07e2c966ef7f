"""The authority of an intercepting proxy outlives its process, if it has a directory of its own for it."""

import ssl
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support import certificates
from support.outage import LocalUpstream
from support.process import RunningProxy, command

INTERCEPTED = {"match": "127.0.0.1", "https": "intercept"}

Start = Callable[..., RunningProxy]


@pytest.fixture
def upstream() -> Iterator[LocalUpstream]:
    with LocalUpstream(tls=certificates.server("127.0.0.1")) as upstream:
        yield upstream


@pytest.fixture
def start() -> Start:
    """Makes a proxy that intercepts the calls of the upstream, with these settings of `intercept`."""
    tls = {"ca": certificates.authority_path()}

    def made(**intercept: Any) -> RunningProxy:
        return RunningProxy(upstreams=[INTERCEPTED | {"tls": tls}], intercept=intercept)

    return made


def client(proxy: RunningProxy, bundle: str) -> httpx.Client:
    """A client that trusts what this bundle has, and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=bundle)
    return httpx.Client(proxy=proxy.url, verify=context, trust_env=False)


def status(proxy: RunningProxy, bundle: str, upstream: LocalUpstream) -> int:
    """Of the upstream's answer, which has come through the proxy's own eyes."""
    with client(proxy, bundle) as opened:
        answer = opened.get(upstream.url)
    assert "breaker-proxy-" in answer.headers["via"]
    return answer.status_code


def modes(folder: Path) -> dict[str, str]:
    """The permissions of what is in a folder."""
    return {path.name: stat.filemode(path.stat().st_mode) for path in folder.iterdir()}


def test_a_restart_keeps_the_authority(tmp_path: Path, start: Start, upstream: LocalUpstream) -> None:
    private, shared = tmp_path / "private", tmp_path / "shared"
    directories = {"private_directory": str(private), "directory": str(shared)}
    with start(**directories) as proxy:
        made = proxy.told("intercepting")
        certificate, bundle = (shared / "ca.crt").read_bytes(), (shared / "ca-bundle.crt").read_text()
        assert status(proxy, bundle, upstream) == 200
        assert modes(tmp_path)["private"] == "drwx------"
        assert modes(private) == {"ca.key": "-rw-------", "ca.crt": "-rw-r--r--"}
        assert modes(shared) == {"ca.crt": "-rw-r--r--", "ca-bundle.crt": "-rw-r--r--"}
        assert not any("PRIVATE KEY" in path.read_text() for path in shared.iterdir())
        proxy.crash()
    with start(**directories) as proxy:
        loaded = proxy.told("intercepting")
        assert (made["origin"], loaded["origin"]) == ("made", "loaded")
        assert loaded["fingerprint_sha256"] == made["fingerprint_sha256"]
        assert (shared / "ca.crt").read_bytes() == certificate
        # A client that has read the bundle before the crash goes on.
        assert status(proxy, bundle, upstream) == 200


def test_what_clients_share_is_written_anew_when_it_is_lost(
    tmp_path: Path, start: Start, upstream: LocalUpstream
) -> None:
    # The volume for clients is often one in memory, which goes with the pod.
    private, shared = tmp_path / "private", tmp_path / "shared"
    directories = {"private_directory": str(private), "directory": str(shared)}
    with start(**directories) as proxy:
        former = (shared / "ca-bundle.crt").read_text()
        proxy.crash()
    for path in shared.iterdir():
        path.unlink()
    shared.rmdir()
    with start(**directories) as proxy:
        assert (shared / "ca-bundle.crt").read_text() == former
        assert status(proxy, former, upstream) == 200


def test_an_ephemeral_authority_goes_with_its_process(
    tmp_path: Path, start: Start, upstream: LocalUpstream
) -> None:
    shared = tmp_path / "shared"
    with start(ephemeral=True, directory=str(shared)) as proxy:
        former = proxy.told("intercepting")["fingerprint_sha256"]
        bundle = (shared / "ca-bundle.crt").read_text()
        assert status(proxy, bundle, upstream) == 200
        proxy.crash()
    with start(ephemeral=True, directory=str(shared)) as proxy:
        assert proxy.told("intercepting")["fingerprint_sha256"] != former
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            status(proxy, bundle, upstream)
        assert status(proxy, (shared / "ca-bundle.crt").read_text(), upstream) == 200
        assert proxy.told("client does not trust the CA")["hint"].startswith(
            f"make the client trust {shared / 'ca-bundle.crt'}"
        )
    assert [path.name for path in tmp_path.iterdir() if "ca.key" in path.name] == []


def refused(tmp_path: Path, **intercept: str) -> str:
    """The only fault by which it does not start with these settings of `intercept`."""
    file = tmp_path / "config.yaml"
    listen = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    file.write_text(yaml.safe_dump({"listen": listen, "upstreams": [INTERCEPTED], "intercept": intercept}))
    done = command("run", "--config", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    (fault,) = done.stderr.splitlines()
    return fault


def test_without_a_place_for_its_key_it_does_not_start(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    fault = refused(tmp_path, directory=str(shared))
    assert fault.startswith(f"{tmp_path / 'config.yaml'}:")
    assert "intercept.private_directory" in fault
    assert "intercept.ephemeral" in fault
    assert not shared.exists()


def test_a_spoilt_key_is_refused_and_left_as_it_is(tmp_path: Path, start: Start) -> None:
    private = tmp_path / "private"
    with start(private_directory=str(private)):
        pass
    (private / "ca.key").write_text("nonsense")
    fault = refused(tmp_path, private_directory=str(private))
    assert fault.startswith(f"{private / 'ca.key'}:")
    assert "is no private key in PEM" in fault
    assert (private / "ca.key").read_text() == "nonsense"
