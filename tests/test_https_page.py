"""docs/https.md: it names every setting, its examples load, what it quotes is so, its pictures are drawn."""

import math
import re
import shutil
import ssl
import subprocess
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import sequences
from structlog.testing import capture_logs
from system.test_trust_variables import HEEDED, VARIABLES

from proxy.control.access_log import AccessLog
from proxy.control.config import load
from proxy.core import budget, errors
from proxy.core.acl import Acl
from proxy.core.client_hello import ClientHello
from proxy.core.egress import Egress, SniRules
from proxy.core.exchange import Awaited, Entry, Exchange
from proxy.core.https import BUNDLE_NAME, HttpsMode, Intercept, Tls
from proxy.core.policies import Policies
from proxy.core.policy import Limits, Log, Settings
from proxy.core.target import Target
from proxy.wire import beginning, certificate_authority, mint, trust_bundle
from proxy.wire.tls_errors import of_upstream

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "https.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(version: 1\n.*?)```", PAGE, re.DOTALL)


def settings_of(text: str, folder: Path) -> Settings:
    file = folder / "config.yaml"
    file.write_text(text)
    return load(file, {}, {})


# Pictures.


@pytest.mark.parametrize("name", sorted(sequences.PICTURES))
def test_pictures_are_what_the_script_draws(name: str) -> None:
    drawn = sequences.PICTURES[name]()
    assert (DOCS / name).read_text(encoding="utf-8") == drawn, "run make pictures, and look at it"
    assert f"({name})" in PAGE


@pytest.mark.parametrize("mode", list(HttpsMode))
def test_each_mode_has_a_picture(mode: HttpsMode) -> None:
    assert f"https-{mode.value}.svg" in sequences.PICTURES


@pytest.mark.parametrize("name", sorted(sequences.PICTURES))
def test_nothing_is_drawn_outside_of_the_paper(name: str) -> None:
    picture = ET.fromstring(sequences.PICTURES[name]())  # noqa: S314 -- our own file
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    for box in picture.iter("{http://www.w3.org/2000/svg}rect"):
        x, y = float(box.get("x", 0)), float(box.get("y", 0))
        assert 0 <= x <= x + float(box.attrib["width"]) <= width
        assert 0 <= y <= y + float(box.attrib["height"]) <= height


# Settings and examples.


@pytest.mark.parametrize("name", [field.name for field in fields(Intercept)])
def test_every_setting_of_interception_is_named(name: str) -> None:
    assert re.search(rf"`(?:intercept\.)?{name}\b", PAGE)


@pytest.mark.parametrize("name", [field.name for field in fields(Tls)])
def test_every_setting_of_tls_is_named_in_the_table(name: str) -> None:
    table = PAGE.partition("## TLS to upstreams")[2].partition("```")[0]
    assert re.search(rf"^\|[^|]*`{name}`", table, re.MULTILINE)


@pytest.mark.parametrize("mode", list(HttpsMode))
def test_every_mode_has_a_column_and_a_section(mode: HttpsMode) -> None:
    header = PAGE.partition("<!-- modes -->\n")[2].partition("\n")[0]
    assert f"`{mode.value}`" in header
    assert f"\n## {mode.value.capitalize()}\n" in PAGE


@pytest.mark.parametrize("rules", list(SniRules))
def test_every_way_to_rule_over_server_names_is_named(rules: SniRules) -> None:
    assert f"`{rules.value}`" in PAGE.partition("\n## SNI\n")[2].partition("\n## ")[0]


def test_the_first_example_is_as_the_page_explains_it(tmp_path: Path) -> None:
    policies = Policies(settings_of(EXAMPLES[0], tmp_path))
    assert policies.of("api.example.com", 443).https is HttpsMode.INTERCEPT
    assert policies.of("elsewhere.example", 443).https is HttpsMode.INTERCEPT
    assert policies.of("bank.example.com", 443).https is HttpsMode.TUNNEL
    target, _ = policies.find(Target("http", "api.example.com", 80, "/hook", "api.example.com"))
    assert (target.scheme, target.host_port) == ("https", "api.example.com:443")
    silent = EXAMPLES[0].replace("    https: intercept\n    circuit", "    circuit")
    assert Policies(settings_of(silent, tmp_path)).of("hooks.example.com", 443).https is HttpsMode.TUNNEL


# What it quotes.


@pytest.mark.parametrize(
    "error",
    [
        errors.TlsCertificateError,
        errors.TlsProtocolError,
        errors.TlsAlertReceived,
        errors.MisdirectedRequest,
        errors.CaNotTrusted,
        errors.ClientTlsFailed,
        errors.ConnectionTerminated,
        errors.ConnectionTimeout,
    ],
)
def test_every_reason_is_told(error: type[errors.ProxyError]) -> None:
    assert f"`{error('').reason}`" in PAGE


def test_the_hints_of_failed_handshakes_are_the_products() -> None:
    expired = ssl.SSLCertVerificationError()
    expired.verify_message = "certificate has expired"
    too_old, refused = ssl.SSLError(), ssl.SSLError()
    too_old.reason = "TLSV1_ALERT_PROTOCOL_VERSION"
    refused.reason = "SSLV3_ALERT_HANDSHAKE_FAILURE"
    for error in (expired, too_old, refused):
        told = of_upstream(error)
        assert f"| `{told.reason}` | `{told.details}` |" in PAGE
    assert f"| `{Awaited.TLS.error('').reason}` | `{Awaited.TLS.details}` |" in PAGE


@pytest.mark.parametrize("module", ["intercept", "tls_errors", "dialer"])
def test_quoted_details_stand_in_the_program(module: str) -> None:
    source = (ROOT / "proxy" / "wire" / f"{module}.py").read_text(encoding="utf-8")
    quoted = {
        "intercept": (
            "the client closed the connection in the TLS handshake",
            "the client speaks neither TLS nor HTTP/1",
        ),
        "tls_errors": ("TLS with the client failed: ",),
        "dialer": ("the upstream closed the connection in the TLS handshake",),
    }
    for words in quoted[module]:
        assert words in source
        assert words in PAGE


def test_the_lines_of_the_log_are_the_products() -> None:
    exchange = Exchange(Entry.TUNNEL, "CONNECT", 0)
    exchange.target = Target("", "api.example.com", 443, "", "api.example.com:443")
    exchange.tunnelled_because = "x"
    with capture_logs() as lines:
        access = AccessLog("/trust")
        access.configure(Log())
        for exchange.error in (errors.CaNotTrusted("x"), errors.ClientTlsClosed("x")):
            access.exchange_ended(exchange, 1)
    events = {line["event"] for line in lines} - {"exchange ended"}
    assert len(events) == 3
    for event in events:
        assert f"`{event}`" in PAGE


@pytest.mark.parametrize("client", sorted(HEEDED))
def test_each_client_is_told_the_variables_that_the_real_one_heeds(client: str) -> None:
    table = PAGE.partition("<!-- trust -->")[2].partition("<!-- end of trust -->")[0]
    cells = [
        [cell.strip() for cell in row.split(" | ")] for row in table.splitlines() if row.startswith("| ")
    ]
    told = next(row[1] for row in cells if re.search(rf"\b{client}\b", row[0], re.IGNORECASE))
    assert {name for name in VARIABLES if name in told} == HEEDED[client]


def test_the_memory_of_the_costs_is_that_of_the_limits() -> None:
    costs = PAGE.partition("\n## What it costs\n")[2]
    for intercepts in (False, True):
        assert f"{math.ceil(budget.memory_bytes(Limits(), intercepts=intercepts) / 2**20)} MiB" in costs
    limits = (DOCS / "limits.md").read_text(encoding="utf-8")
    for kind in ("idle client, intercepted", "idle connection to an upstream with TLS"):
        (measured,) = re.findall(rf"^\| {kind}[^|]*\| ([^|]*) \|", limits, re.MULTILINE)
        assert f"up to {measured} of memory" in costs or f"up to {measured} instead" in costs


def test_what_the_table_says_of_server_names(subtests: pytest.Subtests) -> None:
    tunnel = Target("", "api.example.com", 443, "", "api.example.com:443")
    address = Target("", "8.8.8.8", 443, "", "8.8.8.8:443")
    other, nobody = ClientHello("other.example", None), ClientHello(None, None)
    same = ClientHello("api.example.com", None)
    for target, hello, reported, enforced in (
        (tunnel, same, None, None),
        (tunnel, nobody, None, None),
        (address, other, None, None),
        (tunnel, other, "sni_denied", "sni_denied"),
        (tunnel, None, None, "sni_denied"),
    ):
        with subtests.test(target=target.host, hello=hello):
            exchange = Exchange(Entry.TUNNEL, "CONNECT", 0)
            Acl(Egress(sni=SniRules.REPORT)).authorize_hello(exchange, target, hello)
            assert exchange.unenforced == reported
            reason = None
            try:
                Acl(Egress(sni=SniRules.ENFORCE)).authorize_hello(exchange, target, hello)
            except errors.HttpRequestDenied as error:
                reason = error.reason
            assert reason == enforced


def test_the_numbers_are_the_products() -> None:
    assert f"about {beginning.HELD_S:g} s" in PAGE
    assert f"Up to {budget.MOST_LEAVES} are kept, each valid for {mint.LIFE.days} days" in PAGE
    assert f"valid for {round(certificate_authority.LIFE / timedelta(days=365.25))} years" in PAGE
    assert f"within {certificate_authority.RENEW_BEFORE.days} days" in PAGE
    for name in (BUNDLE_NAME, trust_bundle.CERTIFICATE_NAME, certificate_authority.KEY_NAME):
        assert f"`{name}`" in PAGE


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_the_pair_that_openssl_makes_is_taken(tmp_path: Path) -> None:
    (commands,) = re.findall(r"```sh\n(openssl genpkey.*?)kubectl", PAGE, re.DOTALL)
    subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True, capture_output=True)
    # As a Secret is mounted.
    (tmp_path / "ca.key").chmod(0o440)
    opened = certificate_authority.load_or_make(str(tmp_path), None, (), datetime.now(UTC))
    assert opened.origin is certificate_authority.Origin.LOADED
