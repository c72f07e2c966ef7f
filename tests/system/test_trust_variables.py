"""Which variables make which client trust a bundle, so that the table of docs/https.md stays true."""

from pathlib import Path

import pytest
from support import certificates
from support.outage import LocalUpstream
from support.process import RunningProxy
from system.adapters import Answerless, Ask, environment
from system.caller import HOST
from system.kinds import CONNECTING, KINDS

VARIABLES = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]
HEEDED = {
    "curl": {"SSL_CERT_FILE", "CURL_CA_BUNDLE"},
    "requests": {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"},
    "httpx": {"SSL_CERT_FILE"},
    "aiohttp": {"SSL_CERT_FILE"},
    "undici": {"NODE_EXTRA_CA_CERTS"},
    "fetch": {"NODE_EXTRA_CA_CERTS"},
    "axios": {"NODE_EXTRA_CA_CERTS"},
    "go": {"SSL_CERT_FILE"},
    "java": set[str](),
}


@pytest.mark.parametrize("name", CONNECTING)
def test_these_variables_are_heeded(
    name: str, intercepting: RunningProxy, bundle: Path, tmp_path: Path
) -> None:
    kind = KINDS[name]

    def is_heeded(variable: str, ask: Ask) -> bool:
        with kind.start(tmp_path, environment(intercepting.url) | {variable: str(bundle)}) as client:
            try:
                return client(ask)[0].status == 200
            except Answerless as error:
                if kind.distrusts in str(error):
                    return False
                raise

    with LocalUpstream(HOST, tls=certificates.server(HOST)) as upstream:
        heeded = {variable for variable in VARIABLES if is_heeded(variable, Ask(upstream.url))}
    assert heeded == HEEDED[name]
