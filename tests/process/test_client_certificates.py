"""Upstreams that want a certificate of their client: its own, through a tunnel, or the proxy's."""

import ssl
from pathlib import Path

import httpx
import pytest
from support import certificates
from support.outage import LocalUpstream
from support.process import RunningProxy

INTERCEPTED = {"match": "127.0.0.1", "https": "intercept"}


def test_a_host_that_wants_client_certificates_is_excluded() -> None:
    identity = certificates.identity_path("client.test")
    context = ssl.create_default_context(cafile=certificates.authority_path())
    context.load_cert_chain(identity)
    intercept = {"ephemeral": True, "exclude": ["127.0.0.1"]}
    with LocalUpstream(tls=certificates.server("127.0.0.1", asks_clients=True)) as upstream:
        with RunningProxy(upstreams=[INTERCEPTED], intercept=intercept, log={"access": "all"}) as proxy:
            with httpx.Client(proxy=proxy.url, verify=context, trust_env=False) as opened:
                answer = opened.post(upstream.url, content=b"event")
            assert answer.status_code == 200
            assert "via" not in answer.headers
            assert upstream.seen == ["POST /hook?event=1"]
            ended = proxy.told("exchange ended")
            assert (ended["entry"], ended["outcome"]) == ("tunnel", "success")
            stranger = ssl.create_default_context(cafile=certificates.authority_path())
            with httpx.Client(proxy=proxy.url, verify=stranger, trust_env=False) as opened:
                with pytest.raises(httpx.TransportError):
                    opened.get(upstream.url)
            assert upstream.seen == ["POST /hook?event=1"]


@pytest.mark.parametrize("https", ["intercept", "originate"])
def test_the_proxy_shows_a_certificate_of_its_own(tmp_path: Path, https: str) -> None:
    tls = {"ca": certificates.authority_path(), "client_cert": certificates.identity_path("proxy.test")}
    upstreams = [{"match": "127.0.0.1", "https": https, "tls": tls}]
    with LocalUpstream(tls=certificates.server("127.0.0.1", asks_clients=True)) as upstream:
        with RunningProxy(
            upstreams=upstreams, intercept={"ephemeral": True, "directory": str(tmp_path)}
        ) as proxy:
            if https == "intercept":
                url, trust = upstream.url, ssl.create_default_context(cafile=tmp_path / "ca-bundle.crt")
            else:
                url, trust = upstream.url.replace("https://", "http://"), ssl.create_default_context()
            with httpx.Client(proxy=proxy.url, verify=trust, trust_env=False) as client:
                assert client.get(url).status_code == 200
        assert upstream.seen == ["GET /hook?event=1"]
