"""All clients that are tried, and what each is able to."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from system.adapters import HERE, Client, adapter
from system.curl import curl

PYTHON_DISTRUSTS = "CERTIFICATE_VERIFY_FAILED"
UNDICI_REFUSED = "Proxy response ({status}) !== 200 when HTTP Tunneling"

Trust = Callable[[Path, Path], dict[str, str]]
Start = Callable[[Path, Mapping[str, str]], AbstractContextManager[Client]]


@dataclass(frozen=True)
class Kind:
    """A client.

    Attributes:
        start: starts it with a folder of its own and an environment.
        tunnels: it sends http:// through CONNECT, too.
        refused: what it says when its CONNECT is refused, with {status} and {reason} for those of the proxy's
            answer. Empty: it shows that answer as if it were the upstream's.
        unauthorized: what else it says when the proxy wants another token.
        expects: it can send "Expect: 100-continue".
        interim: it shows interim answers.
        trust: makes it trust a bundle, in the way that is usual for it; takes that and the client's folder,
            and returns what its environment must have.
        distrusts: what it says of a certificate whose authority it does not trust.
        alert: what it then tells the other side (RFC 8446 section 6.2). None: it closes without a word.
        hasty: it may close before it has told that.
        forwards_https: it sends https:// as it sends http://, in the clear, and never with CONNECT.
        hints: the status it shows where "103 Early Hints" goes before 200. Python's http.client, beneath
            requests, takes any interim answer but 100 for the final one.
    """

    start: Start
    trust: Trust
    distrusts: str
    alert: str | None = "unknown_ca"
    hasty: bool = False
    forwards_https: bool = False
    tunnels: bool = False
    refused: str = ""
    unauthorized: str = ""
    expects: bool = False
    interim: bool = False
    hints: int = 200


def _run(*command: str) -> Start:
    return lambda folder, environ: adapter(folder, environ, *command)


def _python(name: str) -> Start:
    return _run(sys.executable, "python/call.py", name)


def _undici(way: str) -> Start:
    return _run("node", "node/undici.mjs", way)


def _axios(version: str) -> Start:
    return _run("node", "node/axios.mjs", version)


def _curl(*options: str) -> Start:
    return lambda folder, environ: curl(folder, environ, *options)


def _by(variable: str) -> Trust:
    return lambda bundle, _: {variable: str(bundle)}


def _trust_store(bundle: Path, folder: Path) -> dict[str, str]:
    # Java reads no PEM there. Its own tool takes one certificate a call.
    store = folder / "trust.p12"
    if not store.exists():
        certificate = folder / "trusted.crt"
        certificate.write_text("-----BEGIN" + bundle.read_text().rpartition("-----BEGIN")[2])
        command = f"keytool -importcert -noprompt -alias breaker-proxy -keystore {store} -storetype PKCS12"
        subprocess.run(
            [*command.split(), "-storepass", "changeit", "-file", certificate],
            check=True,
            capture_output=True,
        )
    named = f"-Djavax.net.ssl.trustStore={store}"
    return {"JDK_JAVA_OPTIONS": f"{named} -Djavax.net.ssl.trustStorePassword=changeit"}


@contextmanager
def _go(folder: Path, environ: Mapping[str, str]) -> Iterator[Client]:
    program = str(folder / "call")
    # It needs no module beside the standard library, and asks no server whether there is one.
    offline = {"GO111MODULE": "off", "GOCACHE": str(folder / "cache"), "GOFLAGS": "", "GOPROXY": "off"}
    subprocess.run(
        ["go", "build", "-o", program, "go/call.go"], cwd=HERE, env={**environ, **offline}, check=True
    )
    with adapter(folder, environ, program) as client:
        yield client


_CURL = partial(
    Kind,
    trust=_by("CURL_CA_BUNDLE"),
    distrusts="curl: (60) SSL certificate problem",
    expects=True,
    interim=True,
)
_NODE = partial(
    Kind,
    trust=_by("NODE_EXTRA_CA_CERTS"),
    distrusts="unable to verify the first certificate",
    alert=None,
)

KINDS = {
    "curl": _CURL(_curl()),
    "curl-tunnel": _CURL(_curl("-p"), tunnels=True),
    "requests": Kind(
        _python("requests"),
        trust=_by("REQUESTS_CA_BUNDLE"),
        distrusts=PYTHON_DISTRUSTS,
        refused="Tunnel connection failed: {status} {reason}'",
        hints=103,
    ),
    "httpx": Kind(
        _python("httpx"), trust=_by("SSL_CERT_FILE"), distrusts=PYTHON_DISTRUSTS, refused="{status} {reason}"
    ),
    "aiohttp": Kind(
        _python("aiohttp"),
        trust=_by("SSL_CERT_FILE"),
        distrusts=PYTHON_DISTRUSTS,
        alert=None,
        refused="{status}, message='{reason}'",
    ),
    "undici": _NODE(_undici("tunnel"), tunnels=True, refused=UNDICI_REFUSED, interim=True),
    "undici-forward": _NODE(
        _undici("forward"),
        refused=UNDICI_REFUSED,
        unauthorized="Proxy Authentication Required (407)",
        interim=True,
    ),
    "fetch": _NODE(_undici("fetch"), tunnels=True, refused=UNDICI_REFUSED),
    "axios": _NODE(_axios("axios")),
    "axios-old": _NODE(_axios("axios-old"), forwards_https=True),
    "go": Kind(
        _go,
        trust=_by("SSL_CERT_FILE"),
        distrusts="x509: certificate signed by unknown authority",
        alert="bad_certificate",
        refused=": {reason}",
        expects=True,
        interim=True,
    ),
    "java": Kind(
        _run("java", "java/Call.java"),
        trust=_trust_store,
        distrusts="PKIX path building failed",
        alert="certificate_unknown",
        hasty=True,
        refused="Tunnel failed, got: {status}",
        unauthorized="too many authentication attempts",
        expects=True,
    ),
}
# Those that by themselves send again what was refused with 503, when that says; most have to be told to.
RETRYING = {
    "curl": _curl("--retry", "3"),
    "requests": _python("requests-retrying"),
    "urllib3": _python("urllib3"),
    "undici": _undici("retry"),
}
# It does as the others of Python's do, and has no other tests.
URLLIB = _python("urllib")
# For https:// each of them once: some are here twice for http:// alone.
HTTPS = [name for name in KINDS if name not in {"curl-tunnel", "undici-forward"}]
# With CONNECT, where it is https://.
CONNECTING = [name for name in HTTPS if not KINDS[name].forwards_https]
