"""docs/egress.md: its tables are those of the program, and its recipes do what it says of them."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from proxy.control.config import load
from proxy.core.acl import Acl
from proxy.core.address import AddressClass
from proxy.core.egress import Egress
from proxy.core.errors import ProxyError
from proxy.core.exchange import Entry, Exchange
from proxy.core.policies import Policies
from proxy.core.policy import Settings
from proxy.core.target import Target
from proxy.wire.responses import render

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "egress.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"(?ms)^### ([^\n]+)\n\n```yaml\n(.*?)^```$", PAGE))

PRIVATE = "Deliver to a private network"
UPSTREAM = "Let one upstream be inside"
ROUTE = "A route to an inside service"
ONLY = "Only these hosts, only these ports"
REPORT = "Look first, refuse later"
KUBERNETES = "Kubernetes"
NAT64 = "A network with its own NAT64 prefix"
OWN = "Your own public addresses"

BY_CLASS, BY_DENY = "Address denied by egress.addresses", "Address denied by egress.deny"
NOT_ALLOWED, DENIED = "Host denied by egress.hosts.allow", "Host denied by egress.hosts.deny"


@pytest.fixture(scope="module")
def classes() -> ModuleType:
    """docs/classes.py."""
    spec = spec_from_file_location("classes", DOCS / "classes.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_what_the_script_makes(classes: ModuleType) -> None:
    assert classes.page(PAGE) == PAGE, "run make classes, and look at it"
    assert set(classes.WHY) == set(AddressClass)


def test_a_table_without_a_place_is_noticed(classes: ModuleType) -> None:
    with pytest.raises(ValueError, match="0 places for the table ranges"):
        classes.page(PAGE.replace("<!-- ranges -->", ""))


def test_the_answer_on_the_page_is_the_products() -> None:
    denied = Acl(Egress()).vet("10.0.0.1", 80)
    assert denied is not None
    answer = render(
        denied, name="breaker-proxy-3f9c02ab", method="GET", next_hop="10.0.0.1:80", keep_alive=True
    )
    assert answer.decode("ascii").replace("\r\n", "\n") in PAGE


def settings_of(recipe: str, folder: Path, **words: str) -> Settings:
    text = RECIPES[recipe]
    for old, new in words.items():
        text = text.replace(old, new)
    file = folder / "config.yaml"
    file.write_text(text)
    return load(file, {}, {})


def refusal(settings: Settings, entry: Entry, host: str, port: int, address: str) -> str | None:
    """The phrase with which a call is refused whose host leads to this address."""
    is_internal = entry is Entry.REVERSE and settings.routes[0].internal
    acl = Policies(settings).of(host, port, is_internal=is_internal).acl
    try:
        acl.authorize(Exchange(entry, "GET", 0), Target("http", host, port, "/", host))
    except ProxyError as error:
        return error.phrase
    denied = acl.vet(address, port)
    return None if denied is None else denied.phrase


@pytest.mark.parametrize(
    ("recipe", "entry", "host", "port", "address", "phrase"),
    [
        (PRIVATE, Entry.FORWARD, "a", 80, "10.20.0.1", None),
        (PRIVATE, Entry.TUNNEL, "a", 443, "fd12:3456::1", None),
        (PRIVATE, Entry.FORWARD, "a", 80, "8.8.8.8", None),
        (PRIVATE, Entry.FORWARD, "a", 80, "10.21.0.1", BY_CLASS),
        (PRIVATE, Entry.FORWARD, "a", 80, "169.254.169.254", BY_CLASS),
        (UPSTREAM, Entry.FORWARD, "hooks.example.internal", 8080, "10.20.0.1", None),
        (UPSTREAM, Entry.FORWARD, "hooks.example.internal", 8080, "169.254.169.254", BY_CLASS),
        (UPSTREAM, Entry.FORWARD, "hooks.example.internal", 8081, "10.20.0.1", BY_CLASS),
        (UPSTREAM, Entry.FORWARD, "other.example.internal", 8080, "10.20.0.1", BY_CLASS),
        (ROUTE, Entry.REVERSE, "billing.internal", 8080, "10.1.2.3", None),
        (ROUTE, Entry.FORWARD, "billing.internal", 8080, "10.1.2.3", BY_CLASS),
        (ONLY, Entry.FORWARD, "api.example.com", 80, "8.8.8.8", None),
        (ONLY, Entry.TUNNEL, "api.example.com", 443, "8.8.8.8", None),
        (ONLY, Entry.TUNNEL, "api.example.com", 22, "8.8.8.8", "Port denied"),
        (ONLY, Entry.TUNNEL, "hooks.example.org", 8443, "8.8.8.8", None),
        (ONLY, Entry.TUNNEL, "hooks.example.org", 443, "8.8.8.8", NOT_ALLOWED),
        (ONLY, Entry.FORWARD, "a.example.net", 80, "8.8.8.8", None),
        (ONLY, Entry.FORWARD, "admin.example.net", 80, "8.8.8.8", DENIED),
        (ONLY, Entry.FORWARD, "8.8.8.8", 80, "8.8.8.8", NOT_ALLOWED),
        (ONLY, Entry.FORWARD, "api.example.com", 80, "10.0.0.1", BY_CLASS),
        (REPORT, Entry.FORWARD, "elsewhere.example", 80, "8.8.8.8", None),
        (REPORT, Entry.FORWARD, "elsewhere.example", 80, "10.0.0.1", BY_CLASS),
        (KUBERNETES, Entry.FORWARD, "a.shop.svc.cluster.local", 80, "10.96.7.8", None),
        (KUBERNETES, Entry.FORWARD, "a.shop.svc.cluster.local", 443, "10.96.0.1", BY_DENY),
        (KUBERNETES, Entry.FORWARD, "a.bank.svc.cluster.local", 80, "10.96.7.8", BY_CLASS),
        (OWN, Entry.FORWARD, "a", 80, "198.51.100.7", BY_DENY),
        (OWN, Entry.FORWARD, "a", 80, "2001:db8:1abc::1", BY_DENY),
        (OWN, Entry.FORWARD, "a", 80, "8.8.8.8", None),
    ],
)
def test_a_recipe_does_what_the_page_says(
    tmp_path: Path, *, recipe: str, entry: Entry, host: str, port: int, address: str, phrase: str | None
) -> None:
    assert refusal(settings_of(recipe, tmp_path), entry, host, port, address) == phrase


# Not the prefix of the page, which is for documentation and refused by its class.
@pytest.mark.parametrize("inside", ["10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.0.1"])
def test_the_inside_behind_a_prefix_of_ones_own_is_refused_and_the_outside_is_not(
    tmp_path: Path, inside: str
) -> None:
    settings = settings_of(NAT64, tmp_path, **{"2001:db8:64::": "2a00:64::"})
    assert refusal(settings, Entry.FORWARD, "a", 80, f"2a00:64::{inside}") == BY_DENY
    assert refusal(settings, Entry.FORWARD, "a", 80, "2a00:64::8.8.8.8") is None


def test_every_recipe_is_tried() -> None:
    assert set(RECIPES) == {PRIVATE, UPSTREAM, ROUTE, ONLY, REPORT, KUBERNETES, NAT64, OWN}
    assert RECIPES.keys() == set(re.findall(r"(?m)^### (.*)$", PAGE))
