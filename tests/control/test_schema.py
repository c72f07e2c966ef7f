"""The schema takes what the loader takes, and refuses what it refuses where a schema can."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import descriptions
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from proxy.control import schema, yaml_source
from proxy.control.sections import Walk
from proxy.control.yaml_source import compose, value_of
from proxy.core.policy import Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "config.example.yaml").read_text(encoding="utf-8")
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
    for number, block in enumerate(
        re.findall(r"(?ms)^ *```yaml\n(.*?)^ *```$", page.read_text(encoding="utf-8"))
    )
]
Value = Any


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema.text()))


def fits(value: Value) -> bool:
    return validator().is_valid(value)


def faults(text: str) -> list[str]:
    """What the loader finds wrong with the keys and values of a file, each by itself."""
    try:
        root = compose(text)
    except yaml_source.Unreadable as error:
        return [error.message]
    walk = Walk("file")
    if root is not None:
        walk.section(root, Settings)
    return [str(fault) for fault in walk.faults]


def meant(node: Node | None) -> Value:
    """The value that an editor sees: plain words as YAML 1.2 has them."""
    if isinstance(node, MappingNode):
        return {key.value: meant(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [meant(item) for item in node.value]
    return value_of(node) if isinstance(node, ScalarNode) else None


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(validator().schema)


@pytest.mark.parametrize("text", [EXAMPLE, EXAMPLE.replace("\n# ", "\n"), "", "{}", "circuit:\nupstreams:\n"])
def test_whole_files(text: str) -> None:
    if faults(text):
        pytest.fail("\n".join(faults(text))) if text == EXAMPLE else None
        return
    assert [error.message for error in validator().iter_errors(meant(compose(text)))] == []


def test_the_examples_are_found() -> None:
    assert len(BLOCKS) >= 20


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_that_the_loader_takes(block: str) -> None:
    """Blocks that are no configuration, such as manifests, are refused by both."""
    assert faults(block) or fits(meant(compose(block)))


def test_most_examples_are_taken() -> None:
    assert sum(not faults(str(block.values[0])) for block in BLOCKS) >= 15


def section_of(one: dict[str, Any]) -> dict[str, Any]:
    """The section among what may stand behind a key, if a word may stand for it; else what there is."""
    sections = [each for each in one.get("anyOf", ()) if "properties" in each]
    return sections[0] if sections else one


def leaves(section: dict[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """The schema of each key that is no section, by its dotted name."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in section["properties"].items():
        inner = section_of(one.get("items", one))
        if "properties" in inner:
            found |= leaves(inner, f"{prefix}{name}{'[]' if 'items' in one else ''}.")
        else:
            found[f"{prefix}{name}"] = one
    return found


def test_every_key_has_a_description_and_a_default_that_fits() -> None:
    keys = leaves(schema.schema())
    assert len(keys) > 100
    assert [key for key, one in keys.items() if not one.get("description")] == []
    for key, one in keys.items():
        if "default" in one:
            assert Draft202012Validator(one).is_valid(one["default"]), key
        else:
            assert key.startswith(("upstreams[].", "routes[]."))


def test_descriptions_are_those_of_the_example() -> None:
    assert descriptions.WRITTEN.read_text(encoding="utf-8") == descriptions.text(), "make descriptions"


def test_a_description_can_be_missing() -> None:
    found = descriptions.descriptions("# a section\na:\n  # one\n  b: 1\n  c: 1\n\nd: 2\n")
    assert {name: text for name, text in found.items() if name not in descriptions.IN_LISTS} == {
        "a": "a section",
        "a.b": "one",
        "a.c": "one",
    }


FAULTS = [
    {"circiut": {}},
    {"circuit": {"opne": "30s"}},
    {"upstreams": [{"match": "a", "opne": 1}]},
    {"upstreams": [{"circuit": {}}]},
    {"upstreams": [None]},
    {"upstreams": {"match": "a"}},
    {"upstreams": [{"match": "a b"}]},
    {"upstreams": [{"match": 5}]},
    {"upstreams": [{"match": "a", "circuit": {"open": 30}}]},
    {"upstreams": [{"match": "a", "tls": {"min_version": 1.1}}]},
    {"upstreams": [{"match": "a", "https": "off"}]},
    {"routes": [{"path": "/"}]},
    {"routes": [{"upstream": "ftp://a"}]},
    {"routes": [{"upstream": "http://a", "path": "stripe"}]},
    {"routes": [{"upstream": "http://a?b"}]},
    {"version": 2},
    {"version": "1"},
    {"name": ["a"]},
    {"name": "a\nb"},
    {"listen": {"proxy": 3128}},
    {"listen": {"proxy": "3128"}},
    {"listen": {"proxy": "example.com:3128"}},
    {"listen": {"proxy": None}},
    {"listen": {"open_relay": "yes"}},
    {"listen": {"open_relay": 1}},
    {"listen": []},
    {"circuit": {"open": "soon"}},
    {"circuit": {"open": 30}},
    {"circuit": {"open": "30"}},
    {"circuit": {"open": "0s"}},
    {"circuit": {"open": 0}},
    {"circuit": {"open": "-1s"}},
    {"circuit": {"open": None}},
    {"circuit": {"ramp": 1}},
    {"circuit": {"key": "hosts"}},
    {"circuit": {"key": "path:0"}},
    {"circuit": {"key": "header"}},
    {"circuit": {"failure_ratio": 2}},
    {"circuit": {"failure_ratio": "0.5"}},
    {"circuit": {"consecutive_failures": -1}},
    {"circuit": {"consecutive_failures": 1.5}},
    {"circuit": {"consecutive_failures": True}},
    {"circuit": {"failure_statuses": "any"}},
    {"circuit": {"failure_statuses": [100]}},
    {"circuit": {"failure_statuses": ["500-"]}},
    {"circuit": {"failure_statuses": [True]}},
    {"circuit": {"failure_statuses": None}},
    {"circuit": {"mode": "off"}},
    {"limits": {"max_head": "32KB"}},
    {"limits": {"max_head": 1}},
    {"limits": {"max_head": -1}},
    {"limits": {"max_fields": 5}},
    {"egress": {"addresses": "all"}},
    {"egress": {"allow": "10.0.0.0/8"}},
    {"egress": {"allow": ["internal"]}},
    {"egress": {"connect_ports": [0]}},
    {"egress": {"connect_ports": "none"}},
    {"egress": {"hosts": {"mode": "observe"}}},
    {"log": {"level": "loud"}},
    {"via": "on"},
    {"open_action": None},
    [],
    "circuit",
    5,
]


@pytest.mark.parametrize("value", FAULTS, ids=json.dumps)
def test_faults_that_a_schema_can_see(value: Value) -> None:
    assert faults(json.dumps(value))
    assert not fits(value)


# Words, numbers and texts that some settings take and others do not.
WORDS = [
    *(
        "host",
        "path",
        "path:3",
        "header:X-Tenant",
        "http://dl.test/{host}/{path}?{query}",
        "enforce",
        "observe",
        "disabled",
        "report",
        "public",
        "any",
    ),
    *(
        "no-metadata",
        "auto",
        "on",
        "off",
        "debug",
        "info",
        "all",
        "errors",
        "hash",
        "full",
        "respond",
        "close",
        "reject",
        "refusal",
        "loose",
        "failure",
    ),
    *("tunnel", "intercept", "originate", "1.2", "1.3", "none", "null", "true", "", "0", "5", "1.5", "-1"),
    *("0s", "0ms", "30s", "1.5m", "0.0001h", "250ms", "1d", "512", "64KiB", "1GiB", "0KiB", "64kb"),
    *("127.0.0.1:0", "[::1]:3128", "localhost:1", "0.0.0.0:65535", "127.0.0.1:99999", "[::]:", "a:1"),
    *("*", "*.example.com", "api.example.com:8443", "[::1]", "*.10.0.0.1", "EXAMPLE.com.", "_a-b.c", "a:"),
    *("10.0.0.0/8", "fd00::/8", "192.0.2.7", "10.0.0.0/255.0.0.0", "10.0.0.1/8", "::ffff:1.2.3.4"),
    *(
        "/",
        "/stripe",
        "/a?b",
        "/~!$&'()*+,;=:@%",
        "http://10.0.0.7:8080/base",
        "https://a",
        "https://[::1]/x",
    ),
    *(
        "500-599",
        "429",
        "599-500",
        "443",
        "8000-8999",
        "00443",
        "é",
        "a\tb",
        "a\x7fb",
        "\x85",
        "\u2028",
        "日本",
    ),
]
SCALARS = st.one_of(
    st.sampled_from(WORDS),
    st.none(),
    st.booleans(),
    st.integers(-2, 1200),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 1.2, 1.3, 5.0, 1e-7, 1e300, 10**18, 10**30, 65535, 65536]),
    st.text(max_size=5),
    st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3})?(ms|s|m|h|KiB|MiB|)", fullmatch=True),
)


def fitting(one: dict[str, Any]) -> list[Value]:
    """Some of the words and numbers that fit a schema."""
    if "items" in one:
        return [[value] for value in fitting(one["items"])]
    return [value for value in (*WORDS, True, 1, 2, 0.5, 100) if Draft202012Validator(one).is_valid(value)]


def values_of(one: dict[str, Any]) -> st.SearchStrategy[Value]:
    """Values for a key, most of them of its form."""
    if section_of(one) is not one:
        return values_of(section_of(one)) | st.just(one["anyOf"][0]["const"])
    if "properties" in one:
        known = {name: values_of(inner) for name, inner in one["properties"].items()}
        needed = {name: known.pop(name) for name in one.get("required", ())}
        mapping = st.fixed_dictionaries(needed, optional=known)
        return mapping | st.none() if "null" in one["type"] else mapping
    if "items" in one:
        return st.lists(values_of(one["items"]), max_size=3) | SCALARS
    pool: list[st.SearchStrategy[Value]] = [SCALARS, st.lists(SCALARS, max_size=2)]
    pool += [st.sampled_from(fitting(one))] * 3
    words = one.get("enum") or [each["const"] for each in one.get("anyOf", ()) if "const" in each]
    if words:
        pool += [st.sampled_from(words)] * 3
    patterns = [each["pattern"] for each in (one, *one.get("anyOf", ())) if "pattern" in each]
    for pattern in patterns:
        pool += [st.from_regex(pattern.removesuffix("$"), fullmatch=True)] * 3
    return st.one_of(pool)


# One section at a time: of a whole file hardly one would be without a fault.
SECTIONS = {name: values_of(one) for name, one in schema.schema()["properties"].items()}
SINGLES = {
    key: one
    for key, one in leaves(schema.schema()).items()
    # The same kinds once more, which the whole sections below try as well.
    if not key.startswith(("upstreams[].circuit.", "upstreams[].timeouts.", "upstreams[].egress."))
}


def placed(key: str, value: Value) -> Value:
    """A file that sets only this key."""
    beside = {"upstreams[]": {"match": "a"}, "routes[]": {"upstream": "http://a"}}
    names = key.split(".")
    for depth in reversed(range(len(names))):
        within = beside.get(".".join(names[:depth]), {})
        value = {**within, names[depth].removesuffix("[]"): [value] if names[depth].endswith("[]") else value}
    return value


@pytest.mark.parametrize("key", SINGLES)
def test_whatever_value_the_loader_takes_the_schema_takes(key: str) -> None:
    taken: list[Value] = []

    def check(value: Value) -> None:
        text = json.dumps(placed(key, value))
        if not faults(text):
            taken.append(value)
            assert fits(meant(compose(text)))

    for value in fitting(SINGLES[key]):
        check(value)
    assert taken, "no value that the loader takes was tried"
    settings(max_examples=25)(given(values_of(SINGLES[key]))(check))()


@pytest.mark.parametrize("name", SECTIONS)
def test_whatever_section_the_loader_takes_the_schema_takes(name: str) -> None:
    # Deferred: what Hypothesis would write of a strategy of that size is too long for it.
    @settings(max_examples=40)
    @given(st.deferred(lambda: SECTIONS[name]))
    def check(value: Value) -> None:
        text = json.dumps({name: value})
        if not faults(text):
            assert fits(meant(compose(text)))

    check()
