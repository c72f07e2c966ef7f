"""`load` and the modules below it: what is accepted, every fault with its line, and which source wins."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.control.config import ENVIRONMENT, FLAGS, ConfigError, Fault, load
from proxy.control.convert import MAX_SECONDS, duration_text, parse_seconds, parse_size, size_text
from proxy.core.defer import Defer
from proxy.core.egress import AllowedAddresses, Egress, SniRules
from proxy.core.errors import HttpRequestDenied
from proxy.core.exchange import Entry, Exchange
from proxy.core.fallback import DeferOrder, Fallback, FallbackOn, RedirectUrl
from proxy.core.host_pattern import HostPattern
from proxy.core.https import HttpsMode, Intercept, Tls, TlsVersion
from proxy.core.overlay import Overlay
from proxy.core.policies import Policies
from proxy.core.policy import (
    AccessLog,
    CircuitPolicy,
    Dns,
    Drain,
    Endpoint,
    Limits,
    Listen,
    Log,
    LogLevel,
    Mode,
    OpenAction,
    Settings,
    Timeouts,
    Upstream,
)
from proxy.core.ports import Ports
from proxy.core.quantities import Bytes, Seconds
from proxy.core.scope import By, CircuitKey
from proxy.core.statuses import Statuses
from proxy.core.target import Target

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
DURATION = "expected a duration such as 250ms, 30s, 5m or 1h"
SIZE = "expected a size such as 512, 64KiB, 256MiB or 1GiB"
ENDPOINT = "expected an address and port such as 127.0.0.1:3128, [::1]:3128 or localhost:3128"
KEY = "expected host, path, path:N (N from 1 to 99) or header:NAME"
STATUSES = "expected a list such as [500-599, 429], or none"
STATUS = "expected a status such as 503 or a range such as 500-599"
UPSTREAM = "expected a URL such as http://10.0.0.7:8080/base"
NUMBER = "the host reads as a number: an address is four decimals from 0 to 255, without more zeros"
MATCH = "expected a host such as api.example.com or *.example.com"
SECRET = "s3cret" * 40


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Writes the configuration file and gives its path."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def load_file(path: Path) -> Settings:
    return load(path, {}, {})


def faults_of(path: Path) -> list[str]:
    """The faults as they are shown, without the path of the file."""
    with pytest.raises(ConfigError) as caught:
        load_file(path)
    assert str(caught.value) == "\n".join(map(str, caught.value.faults))
    return [str(fault).removeprefix(str(path)) for fault in caught.value.faults]


# What is accepted.


def of_failures(statuses: set[int]) -> Settings:
    return Settings(circuit=CircuitPolicy(failure_statuses=Statuses(statuses)))


def of_upstream(https: HttpsMode = HttpsMode.TUNNEL, **tls: object) -> Settings:
    return Settings(upstreams=(Upstream(match=HostPattern("a"), https=https, tls=Overlay(tls)),))


ACCEPTED: list[tuple[str, Settings]] = [
    ("", Settings()),
    ("# only a comment\n", Settings()),
    ("upstreams: [{match: a, fallback: reject}]", Settings(upstreams=(Upstream(match=HostPattern("a")),))),
    (
        "upstreams: [{match: a, fallback: {redirect: 'http://b/{path}', on: failure}}]",
        Settings(
            upstreams=(
                Upstream(
                    match=HostPattern("a"),
                    fallback=Fallback(redirect=RedirectUrl.parse("http://b/{path}"), on=FallbackOn.FAILURE),
                ),
            )
        ),
    ),
    (
        "{defer: {path: d.db}, upstreams: [{match: a, fallback: {defer: true, order: strict}}]}",
        Settings(
            defer=Defer(path="d.db"),
            upstreams=(
                Upstream(match=HostPattern("a"), fallback=Fallback(defer=True, order=DeferOrder.STRICT)),
            ),
        ),
    ),
    ("---\n", Settings()),
    ("null", Settings()),
    ("{}", Settings()),
    ("\ufeffversion: 1", Settings()),
    ("%YAML 1.2\n---\nversion: 1", Settings()),
    ("listen:\ncircuit:\n  # open: 5s\n", Settings()),
    ("dns: {servers: }", Settings()),
    ("name: null", Settings()),
    ("name: ~", Settings()),
    ("name: 'null'", Settings(name="null")),
    ("name: on", Settings(name="on")),
    ("name: true", Settings(name="true")),
    ("via: false", Settings(via=False)),
    ("state_file: null", Settings()),
    ("state_file: state.json", Settings(state_file="state.json")),
    ("listen: {proxy: 127.0.0.1:0}", Settings(listen=Listen(proxy=Endpoint("127.0.0.1", 0)))),
    ("listen: {proxy: '[::1]:65535'}", Settings(listen=Listen(proxy=Endpoint("::1", 65535)))),
    ("listen: {proxy: '[0:0::0:1]:1'}", Settings(listen=Listen(proxy=Endpoint("::1", 1)))),
    ("listen: {proxy: localhost:8080}", Settings(listen=Listen(proxy=Endpoint("localhost", 8080)))),
    ("circuit: {open: 250ms}", Settings(circuit=CircuitPolicy(open=Seconds(0.25)))),
    ("circuit: {open: 1.5s}", Settings(circuit=CircuitPolicy(open=Seconds(1.5)))),
    ("circuit: {open: '5m'}", Settings(circuit=CircuitPolicy(open=Seconds(300)))),
    ("timeouts: {dns: 8760h}", Settings(timeouts=Timeouts(dns=Seconds(MAX_SECONDS)))),
    ("circuit: {abandoned_after: 0}", Settings(circuit=CircuitPolicy(abandoned_after=Seconds(0)))),
    ("circuit: {abandoned_after: 0.0}", Settings(circuit=CircuitPolicy(abandoned_after=Seconds(0)))),
    ("limits: {max_head: 2048}", Settings(limits=Limits(max_head=Bytes(2048)))),
    ("limits: {max_head: '2048'}", Settings(limits=Limits(max_head=Bytes(2048)))),
    ("limits: {max_head: 64KiB}", Settings(limits=Limits(max_head=Bytes(65536)))),
    ("limits: {max_head: 1MiB}", Settings(limits=Limits(max_head=Bytes(2**20)))),
    ("log: {access: off}", Settings(log=Log(access=AccessLog.OFF))),
    (
        "dns:\n  servers:\n  - 10.0.0.1:53\n  - '[fd00::1]:53'\n",
        Settings(dns=Dns(servers=(Endpoint("10.0.0.1", 53), Endpoint("fd00::1", 53)))),
    ),
    (
        "timeouts: {dns: &short 7s, connect: *short}",
        Settings(timeouts=Timeouts(dns=Seconds(7), connect=Seconds(7))),
    ),
    ("circuit: {mode: observe}", Settings(circuit=CircuitPolicy(mode=Mode.OBSERVE))),
    # Types that read themselves.
    ("circuit: {key: host}", Settings()),
    ("circuit: {key: path}", Settings(circuit=CircuitPolicy(key=CircuitKey(By.PATH)))),
    ("circuit: {key: path:3}", Settings(circuit=CircuitPolicy(key=CircuitKey(By.PATH, segments=3)))),
    (
        "circuit:\n  key: header:X-Tenant",
        Settings(circuit=CircuitPolicy(key=CircuitKey(By.HEADER, header="x-tenant"))),
    ),
    *[
        (f"circuit: {{failure_statuses: {written}}}", of_failures(statuses))
        for written, statuses in (
            ('["500-599", 429]', {429, *range(500, 600)}),
            ("[500-502, '503', 502]", {500, 501, 502, 503}),
            ("[\n  500,\n  502-503]", {500, 502, 503}),
            ("none", set()),
            ("'none'", set()),
            ("[]", set()),
        )
    ],
    ("circuit: {throttle_statuses: null}", Settings()),
    ("circuit: {throttle_statuses: none}", Settings(circuit=CircuitPolicy(throttle_statuses=Statuses()))),
    ("circuit: {probe_lease: null}", Settings()),
    ("circuit: {probe_lease: 1m}", Settings(circuit=CircuitPolicy(probe_lease=Seconds(60)))),
    # What differs for some upstreams: only what is written.
    ("upstreams:", Settings()),
    ("upstreams: []", Settings()),
    *[
        (f"upstreams: [{{match: a{nothing}}}]", Settings(upstreams=(Upstream(match=HostPattern("a")),)))
        for nothing in ("", ", circuit: , timeouts: ", ", circuit: {}, timeouts: {}", ", circuit: null")
    ],
    (
        'upstreams:\n- {match: "*.Example.com:80"}\n- match: "[2001:DB8::1]:443"\n- match: "*"',
        Settings(
            upstreams=(
                Upstream(match=HostPattern("*.example.com", 80)),
                Upstream(match=HostPattern("2001:db8::1", 443)),
                Upstream(match=HostPattern("*")),
            )
        ),
    ),
    (
        "upstreams:\n- match: a\n  circuit: {open: 5s, mode: disabled, key: path}\n- match: a\n",
        Settings(
            upstreams=(
                Upstream(
                    match=HostPattern("a"),
                    circuit=Overlay({"open": Seconds(5), "mode": Mode.DISABLED, "key": CircuitKey(By.PATH)}),
                ),
                Upstream(match=HostPattern("a")),
            )
        ),
    ),
    # HTTPS.
    ("egress: {sni: enforce}", Settings(egress=Egress(sni=SniRules.ENFORCE))),
    ("egress: {sni: report}", Settings()),
    ("upstreams: [{match: a, https: tunnel}]", of_upstream()),
    ("upstreams: [{match: a, https: originate}]", of_upstream(HttpsMode.ORIGINATE)),
    ("upstreams: [{match: a, tls: }]", of_upstream()),
    (
        "upstreams: [{match: a, tls: {ca: ca.pem, client_cert: me.pem, client_key: me.key}}]",
        of_upstream(ca="ca.pem", client_cert="me.pem", client_key="me.key"),
    ),
    ("upstreams: [{match: a, tls: {server_name: b.example}}]", of_upstream(server_name="b.example")),
    ("upstreams: [{match: a, tls: {server_name: null}}]", of_upstream(server_name=None)),
    # A number by its looks, but a word here.
    *[
        (f"upstreams: [{{match: a, tls: {{min_version: {written}}}}}]", of_upstream(min_version=version))
        for written, version in (
            ("1.2", TlsVersion.TLS_1_2),
            ("1.3", TlsVersion.TLS_1_3),
            ("'1.2'", TlsVersion.TLS_1_2),
            ('"1.3"', TlsVersion.TLS_1_3),
        )
    ],
    ("intercept:", Settings()),
    (
        "intercept: {directory: /shared, private_directory: /private}",
        Settings(intercept=Intercept(directory="/shared", private_directory="/private")),
    ),
    (
        "intercept: {ephemeral: true}\nupstreams: [{match: a, https: intercept}]",
        Settings(
            intercept=Intercept(ephemeral=True),
            upstreams=(Upstream(match=HostPattern("a"), https=HttpsMode.INTERCEPT),),
        ),
    ),
    (
        'intercept:\n  exclude: ["*.Example.com", a:8443]\n  extra_roots: [one.pem, two.pem]',
        Settings(
            intercept=Intercept(
                exclude=(HostPattern("*.example.com"), HostPattern("a", 8443)),
                extra_roots=("one.pem", "two.pem"),
            )
        ),
    ),
    # The value of null is not the absence of the key.
    (
        "upstreams: [{match: a, circuit: {probe_lease: null, throttle_statuses: null}, timeouts: {dns: 1s}}]",
        Settings(
            upstreams=(
                Upstream(
                    match=HostPattern("a"),
                    circuit=Overlay({"probe_lease": None, "throttle_statuses": None}),
                    timeouts=Overlay({"dns": Seconds(1)}),
                ),
            )
        ),
    ),
]


@pytest.mark.parametrize(("text", "expected"), ACCEPTED)
def test_is_read_as(write: Callable[[str], Path], text: str, expected: Settings) -> None:
    loaded = load_file(write(text))
    assert loaded == expected
    assert type(loaded.circuit.open) is Seconds
    assert type(loaded.limits.max_head) is Bytes


# Faults: a file, and each that is found in it, without its path.

TAG = "a tag stands before a value; leave it out, the key says which type it is"
TOO_MANY = "more than 100000 values, each alias counted as all it stands for"
RANGE = "not valid YAML: a number or an escape out of range"
FLOW = "(while parsing a flow node)"
OPEN_TO_ALL = (
    "can be reached from other machines, and anyone there could use the proxy;"
    " listen on loopback, ask for tokens (listen.credentials_file), or set listen.open_relay: true"
)
LEASE = (
    "(timeouts.dns, connect, tls and head and 5 s):"
    " a shorter lease would fail probes that are within their timeouts"
)
TOO_SOON_GONE = "limits.circuit_idle (900 s) must exceed circuit.open_max x (1 + circuit.open_jitter), 1440 s"
COUNT = "metrics.max_circuits: expected a whole number >= 0"
HEAD_RANGE = "limits.max_head: expected a size from 1KiB to 1MiB"
LAUGHS = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))
ALIAS_LOOP = "&a\ndns: {servers: {x: *a}}"

FAULTS: list[tuple[str | bytes, *tuple[str, ...]]] = [
    # The file as a whole.
    (b"version: 1\nname: \xff", ":2: the file is not UTF-8 text"),
    ("version: 1\nname: a\x00b", ":2: not valid YAML: the character U+0000"),
    (
        "listen:\n\tproxy: x",
        (
            ":2: not valid YAML: found character '\\t' that cannot start any token"
            " (while scanning for the next token)"
        ),
    ),
    ("a: b: c", ":1: not valid YAML: mapping values are not allowed here"),
    ("log: {", f":1: not valid YAML: expected the node content, but found '<stream end>' {FLOW}"),
    ("a: [::1]:1", f":1: not valid YAML: expected the node content, but found ':' {FLOW}"),
    ('version: 1\nname: "\\UFFFFFFFF"', f":2: {RANGE}"),
    ("%YAML 1." + "9" * 5000 + "\n---\n", f":1: {RANGE}"),
    ("version: 1\n---\nversion: 1", ":2: a second YAML document begins here; expected one"),
    ("- version", ":1: expected keys with values, got a list"),
    ("\nversion", ":2: expected keys with values, got 'version'"),
    ("name: !!str x", f":1: {TAG}"),
    ("name: !!python/object/apply:os.getcwd []", f":1: {TAG}"),
    ("#" * (2**20 + 1), ": the file is larger than 1 MiB"),
    # Anchors and aliases, and other ways to make much work.
    ("version: 1\nname: *gone", ":2: not valid YAML: found undefined alias 'gone'"),
    ("dns:\n  servers: &a\n  - *a", ":3: the alias *a stands inside its own anchor"),
    (ALIAS_LOOP, ":2: the alias *a stands inside its own anchor"),
    (f"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{LAUGHS}", f":5: {TOO_MANY}"),
    ("- &a [" + "x," * 300 + "]\n- [" + "*a," * 400 + "]", f":2: {TOO_MANY}"),
    ("- x\n" * 100_000, f":100000: {TOO_MANY}"),
    ("name: " + "[" * 40, ":1: nested more than 32 deep"),
    ("name: " + "{a: " * 50_000, ":1: nested more than 32 deep"),
    ("\n" + "- " * 50_000, ":2: nested more than 32 deep"),
    # Keys.
    ("version: 1\ncircuit:\n  opn: 3s", ":3: circuit.opn: unknown key; did you mean open?"),
    ("log: {colour: red}", ":1: log.colour: unknown key; expected one of level, access, path"),
    ('log: {"a\\nb": 1}', ":1: log.'a\\nb': unknown key; expected one of level, access, path"),
    ("version: 1\n\nversion: 1", ":3: version: the key stands already on line 1"),
    ("log: {level: info}\nlog:\n  level: debug", ":2: log: the key stands already on line 1"),
    (
        "egress: {<<: {addresses: any}}",
        ":1: egress.<<: unknown key; expected one of addresses, allow, deny, hosts, connect_ports, sni",
    ),
    ("version: 1\n? [a]\n: b", ":2: expected a key, got a list"),
    ("log: {? {level: info} : 1}", ":1: log: expected a key, got keys with values"),
    # The wrong kind of node.
    ("egress: any", ":1: egress: expected keys with values, got 'any'"),
    ("egress: [any]", ":1: egress: expected keys with values, got a list"),
    ("via: {x: y}", ":1: via: expected true or false, got keys with values"),
    ("circuit:\n  open:\n    - 3s", f":3: circuit.open: {DURATION}, got a list"),
    ("dns: {servers: 10.0.0.1:53}", ":1: dns.servers: expected a list, got '10.0.0.1:53'"),
    ("dns: {servers: {a: b}}", ":1: dns.servers: expected a list, got keys with values"),
    # Nothing where something is needed.
    ("via:", ":1: via: expected true or false, got nothing"),
    ("circuit: {open: null}", f":1: circuit.open: {DURATION}, got null"),
    ("dns: {servers: [null]}", f":1: dns.servers[0]: {ENDPOINT}, got null"),
    # Booleans.
    *[
        (f"via: {word}", f":1: via: expected true or false, got '{word}'")
        for word in ("on", "off", "yes", "no", "True", "FALSE", "y")
    ],
    ("via: 'true'", ":1: via: expected true or false, got 'true'"),
    ("via: 1", ":1: via: expected true or false, got 1"),
    # Whole numbers.
    *[
        (f"metrics: {{max_circuits: {word}}}", f":1: {COUNT}, got '{word}'")
        for word in ("0x10", "0o7", "010", "1_000", "1e3", "+5", ".inf", ".nan", "many", "1:30", "٣")
    ],
    ("metrics: {max_circuits: 1.0}", f":1: {COUNT}, got 1.0"),
    ("metrics: {max_circuits: true}", f":1: {COUNT}, got true"),
    ("metrics: {max_circuits: -1}", f":1: {COUNT}, got -1"),
    ("metrics: {max_circuits: '5'}", f":1: {COUNT}, got '5'; write it without quotes"),
    (
        f"metrics: {{max_circuits: {'9' * 5000}}}",
        f":1: {COUNT}, got '{'9' * 59}…'; that has too many digits",
    ),
    ("limits: {max_fields: 15}", ":1: limits.max_fields: expected a whole number from 16 to 10000, got 15"),
    ("version: 2", ":1: version: expected 1, got 2"),
    # Durations.
    *[
        (f"circuit: {{open: {word}}}", f":1: circuit.open: {DURATION}, got '{word}'")
        for word in ("soon", "-5s", "5 s", "1h30m", "1d", "5S", ".5s", "infs", "nans", "1e3s", "٣s")
    ],
    ("circuit: {open: " + "9" * 400 + "s}", f":1: circuit.open: {DURATION}, got '{'9' * 59}…'"),
    ("circuit: {open: 30}", f":1: circuit.open: {DURATION}, got 30; add a unit, such as 30s"),
    ("circuit: {open: 1.5}", f":1: circuit.open: {DURATION}, got 1.5; add a unit, such as 30s"),
    ("circuit: {open: -1}", f":1: circuit.open: {DURATION}, got -1; add a unit, such as 30s"),
    ("circuit: {open: false}", f":1: circuit.open: {DURATION}, got false"),
    ("circuit: {open: 8761h}", f":1: circuit.open: {DURATION}, got '8761h'; the most is 8760h"),
    ("circuit: {open: 0}", ":1: circuit.open: expected a duration >= 1ms, got 0"),
    ("circuit: {open: 0.5ms}", ":1: circuit.open: expected a duration >= 1ms, got '0.5ms'"),
    # Sizes.
    *[
        (f"limits: {{max_head: {word}}}", f":1: limits.max_head: {SIZE}, got '{word}'")
        for word in ("big", "64KB", "64k", "64 KiB", "1TiB", "1.5KiB", "-1KiB")
    ],
    ("limits: {max_head: 1.5}", f":1: limits.max_head: {SIZE}, got 1.5"),
    ("limits: {max_head: -1}", f":1: limits.max_head: {SIZE}, got -1"),
    ("limits: {max_head: true}", f":1: limits.max_head: {SIZE}, got true"),
    (
        "limits: {max_head: 9999999999GiB}",
        f":1: limits.max_head: {SIZE}, got '9999999999GiB'; that is too large",
    ),
    ("limits: {max_head: 512}", f":1: {HEAD_RANGE}, got 512"),
    ("limits: {max_head: 2MiB}", f":1: {HEAD_RANGE}, got '2MiB'"),
    # Endpoints.
    *[
        (f"listen: {{admin: '{word}'}}", f":1: listen.admin: {ENDPOINT}, got '{word}'")
        for word in ("x", ":1", "*:1", "::1:1", "[::1]", "[::g]:1", "[fe80::1%eth0]:1", "[127.0.0.1]:1")
    ],
    *[
        (f"listen: {{admin: '{word}'}}", f":1: listen.admin: {ENDPOINT}, got '{word}'")
        for word in ("127.0.0.1", "127.1:1", "300.0.0.1:1", "example.com:1", "localhost:-1", "localhost:")
    ],
    ("listen: {admin: 3129}", f":1: listen.admin: {ENDPOINT}, got 3129"),
    (
        "listen: {admin: 'localhost:65536'}",
        f":1: listen.admin: {ENDPOINT}, got 'localhost:65536'; the highest port is 65535",
    ),
    # Words, text.
    ("log: {level: loud}", ":1: log.level: expected debug, info, warning or error, got 'loud'"),
    ("log: {level: INFO}", ":1: log.level: expected debug, info, warning or error, got 'INFO'"),
    ("log: {path: 5}", ":1: log.path: expected hash or full, got 5"),
    ("log: {path: '5'}", ":1: log.path: expected hash or full, got '5'"),
    ('name: "a\\nb"', ":1: name: expected one line of text, got 'a\\nb'"),
    ('name: "\\uD800"', ":1: name: expected one line of text, got '\\ud800'"),
    ('log: {path: "\\uD800"}', ":1: log.path: expected hash or full, got '\\ud800'"),
    # Values that are wrong together.
    (
        "version: 1\nlisten:\n  admin: 0.0.0.0:1\n  proxy: 0.0.0.0:3128\n",
        f":4: listen.proxy: 0.0.0.0:3128 {OPEN_TO_ALL}",
    ),
    (
        "name: 5\nlisten: {proxy: '[::]:1'}",
        (
            ":1: name: expected a letter, then up to 63 letters, digits, '.', '_' or '-'"
            " (it stands in Via and Proxy-Status)"
        ),
        f":2: listen.proxy: [::]:1 {OPEN_TO_ALL}",
    ),
    (
        "listen: {proxy: '[::]:1'}\nname: .",
        f":1: listen.proxy: [::]:1 {OPEN_TO_ALL}",
        (
            ":2: name: expected a letter, then up to 63 letters, digits, '.', '_' or '-'"
            " (it stands in Via and Proxy-Status)"
        ),
    ),
    # Types that read themselves.
    ("circuit:\n  key: header:", ":2: not valid YAML: mapping values are not allowed here"),
    ("circuit:\n  key: header: X-Tenant", ":2: not valid YAML: mapping values are not allowed here"),
    *[
        (f"version: 1\ncircuit: {{key: {word}}}", f":2: circuit.key: {KEY}, got {shown}")
        for word, shown in (
            ("'header:'", "'header:'"),
            ("header", "'header'"),
            ("path:0", "'path:0'"),
            ("path:100", "'path:100'"),
            ("host:1", "'host:1'"),
            ("3", "3"),
            ("true", "true"),
            ("null", "null"),
            ("", "nothing"),
            ("[path]", "['path']"),
            ("{path: 3}", "keys with values"),
        )
    ],
    *[
        (f"circuit:\n  failure_statuses: {word}", f":2: circuit.failure_statuses: {expected}, got {shown}")
        for word, expected, shown in (
            ("600-500", STATUSES, "'600-500'"),
            ("500", STATUSES, "500"),
            ("all", STATUSES, "'all'"),
            ("", STATUSES, "nothing"),
            ("null", STATUSES, "null"),
            ("{500: 599}", STATUSES, "keys with values"),
            ("[none]", STATUS, "'none'"),
            ("[429, 5xx]", STATUS, "'5xx'"),
            ("[500 - 599]", STATUS, "'500 - 599'"),
            ("[500.0]", STATUS, "500.0"),
            ("[~]", STATUS, "~"),
            ("[true]", STATUS, "true"),
            ("[[500]]", STATUS, "[500]"),
            ("[{500: 599}]", STATUS, "keys with values"),
            ("[600-500]", "expected statuses from 200 to 999, the lower one first", "'600-500'"),
            ("[100]", "expected statuses from 200 to 999, the lower one first", "100"),
        )
    ],
    # What differs for some upstreams.
    ("upstreams: {match: a}", ":1: upstreams: expected a list, got keys with values"),
    (
        "upstreams:\n- a\n-",
        ":2: upstreams[0]: expected keys with values, got 'a'",
        ":3: upstreams[1]: expected keys with values, got nothing",
    ),
    (
        "upstreams:\n- match: a\n- circuit: {open: 1s}",
        ":3: upstreams[1].match: this key is needed, it has no default",
    ),
    (
        "upstreams:\n- match: *.example.com",
        (
            ":2: not valid YAML: expected alphabetic or numeric character, but found '.'"
            ' (while scanning an alias); put a value that begins with * in quotes, such as "*.example.com"'
        ),
    ),
    *[
        (f"upstreams:\n- match: {word}", f":2: upstreams[0].match: {MATCH}, got {shown}")
        for word, shown in (
            ("https://a", "'https://a': the authority is not a host with an optional port"),
            ("a:0", "'a:0': the port is outside 1-65535"),
            ("a:65536", "'a:65536': the port is outside 1-65535"),
            ("a*b", "'a*b': the host has characters that no name has"),
            ("127.0.0.01", f"'127.0.0.01': {NUMBER}"),
            ("", "nothing"),
            ("5", "5"),
            ("[a, b]", "['a', 'b']"),
        )
    ],
    (
        (
            "upstreams:\n- match: a\n  circuit:\n    opn: 3s\n    open: 5\n    min_calls: -1\n"
            "    key: paths\n    open: 3s\n  timeouts: {hed: 1s, head: 0}\n  limits: {}\n"
        ),
        ":4: upstreams[0].circuit.opn: unknown key; did you mean open?",
        f":5: upstreams[0].circuit.open: {DURATION}, got 5; add a unit, such as 30s",
        ":6: upstreams[0].circuit.min_calls: expected a whole number >= 0, got -1",
        f":7: upstreams[0].circuit.key: {KEY}, got 'paths'",
        ":8: upstreams[0].circuit.open: the key stands already on line 5",
        ":9: upstreams[0].timeouts.hed: unknown key; did you mean head?",
        ":9: upstreams[0].timeouts.head: expected a duration >= 1ms, got 0",
        (
            ":10: upstreams[0].limits: unknown key; "
            "expected one of match, circuit, timeouts, egress, https, tls, open_action, fallback"
        ),
    ),
    (
        "upstreams:\n- {match: a, circuit: x, timeouts: [1s]}",
        ":2: upstreams[0].circuit: expected keys with values, got 'x'",
        ":2: upstreams[0].timeouts: expected keys with values, got a list",
    ),
    # HTTPS.
    ("egress: {sni: off}", ":1: egress.sni: expected enforce or report, got 'off'"),
    *[
        (
            f"upstreams:\n- match: a\n  https: {word}",
            f":3: upstreams[0].https: expected tunnel, intercept or originate, got {shown}",
        )
        for word, shown in (("mitm", "'mitm'"), ("true", "true"), ("", "nothing"), ("[tunnel]", "a list"))
    ],
    *[
        (
            f"upstreams:\n- match: a\n  tls: {{min_version: {word}}}",
            f":3: upstreams[0].tls.min_version: expected 1.2 or 1.3, got {shown}",
        )
        for word, shown in (
            ("1.1", "1.1"),
            ("1.30", "1.30"),
            ("1", "1"),
            ("null", "null"),
            ("TLSv1.2", "'TLSv1.2'"),
            ("'1.1'", "'1.1'"),
        )
    ],
    (
        'upstreams:\n- match: a\n  tls: {ca: [x], verify: false, client_cert: "a\\nb"}',
        ":3: upstreams[0].tls.ca: expected one line of text, got a list",
        (
            ":3: upstreams[0].tls.verify: unknown key; "
            "expected one of ca, client_cert, client_key, server_name, min_version"
        ),
        ":3: upstreams[0].tls.client_cert: expected one line of text, got 'a\\nb'",
    ),
    (
        "intercept: {directry: /a, ephemeral: yes, exclude: ['a b'], extra_roots: one.pem}",
        ":1: intercept.directry: unknown key; did you mean directory?",
        ":1: intercept.ephemeral: expected true or false, got 'yes'",
        f":1: intercept.exclude[0]: {MATCH}, got 'a b': the host has characters that no name has",
        ":1: intercept.extra_roots: expected a list, got 'one.pem'",
    ),
    (
        "upstreams:\n- match: a\n  https: intercept",
        (
            ":3: upstreams[0].https: a CA is needed, and nothing says where its key is kept: set "
            "intercept.private_directory, or intercept.ephemeral: true for a new CA at each start"
        ),
    ),
    (
        "intercept:\n  private_directory: /private\n  ephemeral: true",
        ":3: intercept.ephemeral: a CA in intercept.private_directory is not ephemeral: choose one of both",
    ),
    (
        "upstreams:\n- match: a\n  tls:\n    client_key: me.key\n    server_name: a b",
        (":4: upstreams[0].tls.client_key: the certificate of this key is missing: set tls.client_cert"),
        ":5: upstreams[0].tls.server_name: expected the name of a host, such as api.example.com",
    ),
    # Values that are wrong together, and where: at the key, or at what holds the keys that stand against it.
    (
        "upstreams:\n- match: b\n- match: a\n  circuit:\n    probe_lease: 1s\n",
        f":5: upstreams[1].circuit.probe_lease: expected at least 50 s {LEASE}",
    ),
    (
        "circuit: {probe_lease: 50s}\nupstreams:\n- match: b\n- match: a\n  timeouts:\n    head: 40s\n",
        f":4: upstreams[1].circuit.probe_lease: expected at least 60 s {LEASE}",
    ),
    (
        "upstreams:\n- match: a\n  circuit:\n    open: 400s",
        ":3: upstreams[0].circuit.open_max: expected at least circuit.open (400 s)",
    ),
    ("version: 1\ncircuit:\n  open: 400s", ":2: circuit.open_max: expected at least circuit.open (400 s)"),
    ("circuit: {open_max: 20m}", f": limits.circuit_idle: {TOO_SOON_GONE}"),
    (
        "circuit: {open_max: 20m}\n\nlimits: {max_circuits: 5}",
        f":3: limits.circuit_idle: {TOO_SOON_GONE}",
    ),
    # To guess here that open_relay is false would mislead.
    (
        "listen: {proxy: 0.0.0.0:1, open_relay: yes}",
        ":1: listen.open_relay: expected true or false, got 'yes'",
    ),
    # All at once, by line; the value of an alias is mended where its anchor stands.
    (
        (
            "dns: {servers: [&a x]}\nnam: x\ncircuit:\n  open: 5\n  recovery_threshold: 0\n"
            "listen: {admin: *a}\nvia: 1\n"
        ),
        f":1: dns.servers[0]: {ENDPOINT}, got 'x'",
        f":1: listen.admin: {ENDPOINT}, got 'x'",
        ":2: nam: unknown key; did you mean name?",
        f":4: circuit.open: {DURATION}, got 5; add a unit, such as 30s",
        ":5: circuit.recovery_threshold: expected a whole number >= 1, got 0",
        ":7: via: expected true or false, got 1",
    ),
]


@pytest.mark.parametrize(
    ("content", "expected"),
    [(content, expected) for content, *expected in FAULTS],
    ids=[repr(content[:40]) for content, *_ in FAULTS],
)
def test_faults(write: Callable[[str | bytes], Path], content: str | bytes, expected: list[str]) -> None:
    assert faults_of(write(content)) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "cannot be read: Is a directory"),
        ("missing.yaml", "cannot be read: No such file or directory"),
        ("a\x00b", "cannot be read: embedded null byte"),
        ("n" * 300, "cannot be read: File name too long"),
    ],
)
def test_a_path_that_is_no_file(tmp_path: Path, name: str, message: str) -> None:
    assert faults_of(tmp_path / name) == [f": {message}"]


@pytest.mark.parametrize(
    "text",
    [
        f"name: !{SECRET} x",
        f"name: *{SECRET}",
        f"a: &{SECRET} 1\nb: &{SECRET} 2",
        f"name: &{SECRET} [*{SECRET}]",
        f"name: '{SECRET}",
        f"log: {{level: {SECRET}}}",
        f"log: {{{SECRET}: info}}",
        f"egress: {SECRET}",
        f"%TAG !{SECRET}! x\n%TAG !{SECRET}! y\n---\n",
        f"name: !{SECRET}!x y",
        f"listen: {{proxy: {SECRET}}}",
        f"circuit: {{open: {SECRET}}}",
        f"circuit: {{key: {SECRET}}}",
        f"circuit: {{failure_statuses: {SECRET}}}",
        f"circuit: {{failure_statuses: [{SECRET}]}}",
        f"upstreams: [{{match: {SECRET}/}}]",
        f"upstreams: [{{match: a, circuit: {SECRET}}}]",
        f"upstreams: [{{match: a, {SECRET}: {{}}}}]",
        f"upstreams: [{{match: a, https: {SECRET}}}]",
        f"upstreams: [{{match: a, tls: {{min_version: {SECRET}}}}}]",
        f"upstreams: [{{match: a, tls: {{client_key: me.key, {SECRET}: x}}}}]",
        f"[{SECRET}]: 1",
    ],
)
def test_a_secret_in_the_wrong_place_is_shown_in_part_at_most(
    write: Callable[[str], Path], text: str
) -> None:
    (fault, *more) = faults_of(write(text))
    assert not more
    assert len(re.sub(rf"(?!{SECRET[:6]}).", "", fault)) <= 60
    assert SECRET[:66] not in fault


# Sources.


def test_without_any_source_everything_has_its_default() -> None:
    assert load(None, {}, {}) == Settings()


def test_environment_sets_exactly_its_variables() -> None:
    environ = {
        "BREAKER_PROXY_LISTEN_PROXY": "0.0.0.0:1",
        "BREAKER_PROXY_LISTEN_ADMIN": "[::1]:2",
        "BREAKER_PROXY_OPEN_RELAY": "true",
        "BREAKER_PROXY_EGRESS": "no-metadata",
        "BREAKER_PROXY_LOG_LEVEL": "debug",
    }
    assert set(environ) == set(ENVIRONMENT)
    # Kubernetes sets these for a Service named breaker-proxy.
    foreign = {"BREAKER_PROXY_PORT": "tcp://10.0.0.1:3128", "BREAKER_PROXY_VIA": "false"}
    assert load(None, environ | foreign, {}) == Settings(
        listen=Listen(proxy=Endpoint("0.0.0.0", 1), admin=Endpoint("::1", 2), open_relay=True),
        egress=Egress(addresses=AllowedAddresses.NO_METADATA),
        log=Log(level=LogLevel.DEBUG),
    )


def test_a_variable_that_is_not_utf8() -> None:
    with pytest.raises(ConfigError, match=r"^BREAKER_PROXY_LOG_LEVEL: log.level: .* got '\\udcff'$"):
        load(None, {"BREAKER_PROXY_LOG_LEVEL": os.fsdecode(b"\xff")}, {})


def test_an_empty_variable_is_unset(write: Callable[[str], Path]) -> None:
    path = write("egress: {addresses: any}")
    assert load(path, {"BREAKER_PROXY_EGRESS": ""}, {}).egress.addresses is AllowedAddresses.ANY


@pytest.mark.parametrize(
    ("text", "environ", "overrides", "expected"),
    [
        ("", {}, {}, AllowedAddresses.PUBLIC),
        ("egress: {addresses: any}", {}, {}, AllowedAddresses.ANY),
        ("egress: {addresses: any}", {"BREAKER_PROXY_EGRESS": "public"}, {}, AllowedAddresses.PUBLIC),
        ("egress: {addresses: any}", {}, {"egress.addresses": "public"}, AllowedAddresses.PUBLIC),
        ("egress:", {"BREAKER_PROXY_EGRESS": "any"}, {"egress.addresses": "public"}, AllowedAddresses.PUBLIC),
    ],
)
def test_precedence(
    write: Callable[[str], Path],
    text: str,
    environ: dict[str, str],
    overrides: dict[str, str],
    expected: AllowedAddresses,
) -> None:
    assert load(write(text), environ, overrides).egress.addresses is expected


def test_another_source_leaves_the_rest_of_a_section(write: Callable[[str], Path]) -> None:
    path = write("log: {level: error, access: all}\ndrain: {quiet: 2s}")
    loaded = load(path, {"BREAKER_PROXY_LOG_LEVEL": "warning"}, {"drain.timeout": "3s"})
    assert loaded.log == Log(level=LogLevel.WARNING, access=AccessLog.ALL)
    assert loaded.drain == Drain(quiet=Seconds(2), timeout=Seconds(3))


def test_faults_of_all_sources_in_order(write: Callable[[str], Path]) -> None:
    path = write("via: 1\negress: {addresses: all}")
    environ = {"BREAKER_PROXY_EGRESS": "some", "BREAKER_PROXY_OPEN_RELAY": "yes"}
    with pytest.raises(ConfigError) as caught:
        load(path, environ, {"egress.addresses": "", "drain.quiet": "5", "no.such": "1"})
    assert str(caught.value).replace(str(path), path.name).splitlines() == [
        "config.yaml:1: via: expected true or false, got 1",
        "config.yaml:2: egress.addresses: expected public, no-metadata or any, got 'all'",
        "BREAKER_PROXY_OPEN_RELAY: listen.open_relay: expected true or false, got 'yes'",
        "BREAKER_PROXY_EGRESS: egress.addresses: expected public, no-metadata or any, got 'some'",
        "--egress: egress.addresses: expected public, no-metadata or any, got nothing",
        f"command line: drain.quiet: {DURATION}, got 5; add a unit, such as 30s",
        "command line: no: unknown key; expected one of "
        + ", ".join(name for name, _ in keys_of(Settings())),
    ]
    assert [fault.line for fault in caught.value.faults] == [1, 2, None, None, None, None, None]


def test_a_file_that_cannot_be_read_does_not_hide_the_other_sources(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "missing.yaml", {"BREAKER_PROXY_LOG_LEVEL": "loud"}, {})
    assert [fault.key for fault in caught.value.faults] == ["", "log.level"]


def test_a_conflict_names_the_source_with_the_last_word(write: Callable[[str], Path]) -> None:
    path = write("version: 1\nlisten: {proxy: 0.0.0.0:1}\nname: 1\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {"BREAKER_PROXY_LISTEN_PROXY": "0.0.0.0:2"}, {})
    assert [(fault.source, fault.line, fault.key) for fault in caught.value.faults] == [
        (str(path), 3, "name"),
        ("BREAKER_PROXY_LISTEN_PROXY", None, "listen.proxy"),
    ]


def test_another_source_is_not_blamed_for_what_stands_beside_it(write: Callable[[str], Path]) -> None:
    path = write("circuit: {open_max: 20m}")
    with pytest.raises(ConfigError) as caught:
        load(path, {}, {"limits.max_head": "2KiB"})
    assert [(fault.source, fault.line, fault.key) for fault in caught.value.faults] == [
        (str(path), None, "limits.circuit_idle")
    ]


def test_a_list_replaces_a_list(write: Callable[[str], Path]) -> None:
    path = write("circuit: {failure_statuses: [500-599]}")
    loaded = load(path, {}, {"circuit.failure_statuses": "none", "circuit.key": "path:2"})
    assert loaded.circuit == CircuitPolicy(failure_statuses=Statuses(), key=CircuitKey(By.PATH, segments=2))


def test_a_conflict_that_another_source_resolves_is_none(write: Callable[[str], Path]) -> None:
    assert load(
        write("listen: {proxy: 0.0.0.0:1}"), {"BREAKER_PROXY_OPEN_RELAY": "true"}, {}
    ).listen.open_relay


@pytest.mark.parametrize("key", [*ENVIRONMENT.values(), *FLAGS])
def test_other_sources_set_keys_that_exist(key: str) -> None:
    section, name = key.split(".")
    assert hasattr(getattr(Settings(), section), name)


# What differs for some upstreams.


def test_the_first_match_wins_over_what_the_file_says_of_all(write: Callable[[str], Path]) -> None:
    text = """
circuit: {open: 20s, min_calls: 5, throttle_statuses: [418]}
timeouts: {head: 20s}
upstreams:
- match: api.example.com:8443
  circuit: {open: 1s}
- match: "*.example.com"
  circuit: {open: 2s, throttle_statuses: null, key: path}
  timeouts: {head: 60s}
- match: api.example.com
  circuit: {open: 3s}
"""
    policies = Policies(load_file(write(text)))
    first, second, other = (
        policies.of(host, port)
        for host, port in (("api.example.com", 8443), ("api.example.com", 443), ("example.com", 443))
    )
    found = [
        (
            float(policy.circuit.open),
            policy.circuit.min_calls,
            float(policy.timeouts.head),
            policy.circuit.lease_s,
            str(policy.circuit.throttled),
        )
        for policy in (first, second, other)
    ]
    assert found == [(1, 5, 20, 40, "418"), (2, 5, 60, 80, "429"), (20, 5, 20, 40, "418")]


def test_what_is_not_written_of_the_hosts_of_an_upstream_stays(write: Callable[[str], Path]) -> None:
    text = """
egress: {hosts: {deny: [a.example.com], mode: report}}
upstreams:
- match: "*.example.com"
  egress: {hosts: {mode: enforce}}
"""
    acl = Policies(load_file(write(text))).of("a.example.com", 80).acl
    with pytest.raises(HttpRequestDenied):
        acl.authorize(Exchange(Entry.FORWARD, "GET", 0), Target("http", "a.example.com", 80, "/", ""))


def test_an_upstream_may_have_a_rule_of_its_own_on_the_name_in_its_tunnels(
    write: Callable[[str], Path],
) -> None:
    loaded = load_file(write("upstreams: [{match: a, egress: {sni: enforce}}]"))
    assert loaded.upstreams[0].egress.onto(loaded.egress) == Egress(sni=SniRules.ENFORCE)


def test_tls_is_spoken_as_the_first_match_says(write: Callable[[str], Path]) -> None:
    text = """
intercept: {ephemeral: true, exclude: ["bank.example.com"]}
upstreams:
- match: api.example.com
  https: originate
  tls: {ca: private-ca.pem, min_version: 1.3}
- match: "*.example.com"
  https: intercept
"""
    policies = Policies(load_file(write(text)))
    found = {
        host: (policies.of(host, 443).https, policies.of(host, 443).tls)
        for host in ("api.example.com", "www.example.com", "bank.example.com", "example.org")
    }
    assert found == {
        "api.example.com": (HttpsMode.ORIGINATE, Tls(ca="private-ca.pem", min_version=TlsVersion.TLS_1_3)),
        "www.example.com": (HttpsMode.INTERCEPT, Tls()),
        "bank.example.com": (HttpsMode.TUNNEL, Tls()),
        "example.org": (HttpsMode.TUNNEL, Tls()),
    }


def test_the_same_match_twice_is_allowed(write: Callable[[str], Path]) -> None:
    text = "upstreams: [{match: a, circuit: {open: 1s}}, {match: a, circuit: {open: 2s}}]"
    loaded = load_file(write(text))
    assert len(loaded.upstreams) == 2
    assert Policies(loaded).of("a", 80).circuit.open == Seconds(1)


# The example file.


def keys_of(section: object) -> Iterator[tuple[str, Any]]:
    assert is_dataclass(section)
    for setting in fields(section):
        value = getattr(section, setting.name)
        is_section = is_dataclass(value) and not isinstance(value, Endpoint | CircuitKey | Ports)
        yield setting.name, dict(keys_of(value)) if is_section else None


def test_the_example_has_every_key() -> None:
    written = yaml.safe_load(EXAMPLE.read_text())

    def names(section: dict[str, Any]) -> dict[str, Any]:
        return {key: names(value) if isinstance(value, dict) else None for key, value in section.items()}

    assert names(written) == dict(keys_of(Settings()))


def test_the_example_is_the_default() -> None:
    assert load_file(EXAMPLE) == Settings()


def test_what_the_example_shows_in_comments_loads(write: Callable[[str], Path]) -> None:
    shown = re.findall(r"(?m)^# ((?:listen:|routes:|upstreams:| +).*\n)", EXAMPLE.read_text())
    loaded = load_file(write("".join(shown)))
    assert [str(upstream.match) for upstream in loaded.upstreams] == ["hooks.example.com", "*.example.com"]
    assert loaded.upstreams[1].timeouts == Overlay({"head": Seconds(60)})
    assert [upstream.open_action for upstream in loaded.upstreams] == [None, OpenAction.CLOSE]
    redirect = RedirectUrl.parse("http://dead-letters.internal/{host}/{path}?{query}")
    assert loaded.upstreams[1].fallback == Fallback(redirect=redirect, internal=True)
    assert [upstream.https for upstream in loaded.upstreams] == [HttpsMode.TUNNEL, HttpsMode.ORIGINATE]
    assert loaded.upstreams[1].tls.onto(Tls()) == Tls(
        ca="private-ca.pem", client_cert="me.pem", client_key="me.key", min_version=TlsVersion.TLS_1_3
    )
    assert loaded.listen == Listen(reverse=Endpoint("127.0.0.1", 3130))
    routes = [
        (str(route.host), str(route.path), str(route.upstream), route.internal) for route in loaded.routes
    ]
    assert routes == [
        ("None", "/stripe", "http://stripe-mock.internal:12111", True),
        ("None", "/slack", "https://hooks.slack.com/services", False),
        ("*.hooks.internal", "/", "http://10.0.0.7:8080/base", True),
    ]


def test_the_example_has_a_comment_for_every_setting() -> None:
    lines = EXAMPLE.read_text().splitlines()
    bare = [
        line
        for before, line in pairwise(lines)
        if re.match(r" *[a-z]", line) and not before.lstrip().startswith("#") and not before.endswith(":")
    ]
    assert bare == ["  idle_total: 512", "    deny: []", "  ttl_max: 5m", "metrics:"]


ROUTE = {"upstream": "http://a"}


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("path", "stripe", "routes[0].path: expected a path such as /stripe, without a query, got 'stripe'"),
        ("path", "/a?b", "routes[0].path: expected a path such as /stripe, without a query, got '/a?b'"),
        ("host", "a b", f"routes[0].host: {MATCH}, got 'a b': the host has characters that no name has"),
        ("upstream", "a:80", f"routes[0].upstream: {UPSTREAM}, got 'a:80'"),
        ("upstream", "http://a/?b", f"routes[0].upstream: {UPSTREAM}, got 'http://a/?b'"),
        ("upstream", "ftp://a", f"routes[0].upstream: {UPSTREAM}, got 'ftp://a'"),
        ("pth", "/", "routes[0].pth: unknown key; did you mean path?"),
    ],
)
def test_faults_of_a_route(write: Callable[[str], Path], key: str, value: str, fault: str) -> None:
    route = {**ROUTE, key: value}
    text = json.dumps({"listen": {"reverse": "127.0.0.1:1"}, "routes": [route]})
    (told,) = faults_of(write(text))
    assert told.startswith(f":1: {fault}")


def test_a_route_leads_somewhere(write: Callable[[str], Path]) -> None:
    text = "listen: {reverse: 127.0.0.1:1}\nroutes:\n- {path: /}"
    assert faults_of(write(text)) == [":3: routes[0].upstream: this key is needed, it has no default"]


# Properties.

KEYS = [key for name, inner in keys_of(Settings()) for key in (name, *(inner or ()))]
TOKENS = st.sampled_from(
    [
        *KEYS,
        *"{}[]:,-?&*!|>%@`'\"#~\n\t\\\x00\x85\u2028\ud7ff\U0001f600",
        *(": ", "\n  ", "\n- ", "&a ", "*a", "---\n", "...\n", "<<: ", "!!", "%YAML 1.1\n"),
        *("null", "true", "1", "1s", "9" * 20, "\\UFFFFFFFF"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner),
)


def found(path: Path | None, environ: dict[str, str], overrides: dict[str, str]) -> list[Fault]:
    """The faults, none if there are settings; anything but ConfigError fails the test."""
    try:
        load(path, environ, overrides)
    except ConfigError as error:
        return error.faults
    return []


def assert_loads_or_has_faults(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    line_count = len(re.split("\r\n|[\r\n\x85\u2028\u2029]", content.decode(errors="replace")))
    for fault in found(path, {}, {}):
        assert 1 <= (fault.line or 1) <= line_count
        assert str(fault).isprintable()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties") / "config.yaml"


@given(content=st.binary() | st.text().map(lambda text: text.encode(errors="replace")))
def test_any_content_loads_or_has_faults(scratch: Path, content: bytes) -> None:
    assert_loads_or_has_faults(scratch, content)


@given(content=st.lists(TOKENS, max_size=30).map("".join))
@example(content='"\\UFFFFFFFF"')
@settings(max_examples=500)
def test_any_tokens_load_or_have_faults(scratch: Path, content: str) -> None:
    assert_loads_or_has_faults(scratch, content.encode())


@given(values=VALUES)
def test_any_values_load_or_have_faults(scratch: Path, values: object) -> None:
    assert_loads_or_has_faults(scratch, json.dumps(values).encode())


@given(text=st.text(st.characters(exclude_categories=())) | st.lists(TOKENS).map("".join))
def test_any_variable_loads_or_has_faults(text: str) -> None:
    overrides = {"egress.addresses": text, "name": text, "drain.quiet": text}
    for fault in found(None, dict.fromkeys(ENVIRONMENT, text), overrides):
        assert fault.line is None
        assert str(fault).isprintable()


@given(seconds=st.integers(0, MAX_SECONDS * 1000).map(lambda ms: ms / 1000) | st.floats(1e-9, MAX_SECONDS))
def test_durations_round_trip(seconds: float) -> None:
    assert parse_seconds(duration_text(seconds)) == seconds


@given(size=st.integers(0, 2**63 - 1) | st.integers(0, 2**33 - 1).map(lambda count: count * 2**30))
def test_sizes_round_trip(size: int) -> None:
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.001, "1ms"), (0.0015, "0.0015s"), (1.5, "1500ms"), (60, "1m"), (90, "90s"), (7200, "2h")],
)
def test_durations_are_written_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_same_duration_in_two_units_is_the_same_number() -> None:
    assert parse_seconds("1100ms") == parse_seconds("1.1s") == Seconds(1.1)
