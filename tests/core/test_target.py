import re
import string
from ipaddress import IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.circuit_name import CircuitName
from proxy.core.errors import HttpRequestError, NotAProxyRequest
from proxy.core.host import normalised
from proxy.core.target import Target, from_absolute_form, from_authority_form


@pytest.mark.parametrize(
    ("sent", "target"),
    [
        pytest.param(
            "http://example.com/a?b=c",
            Target("http", "example.com", 80, "/a?b=c", "example.com"),
            id="path-and-query",
        ),
        pytest.param(
            "https://example.com/", Target("https", "example.com", 443, "/", "example.com"), id="https"
        ),
        pytest.param(
            "http://example.com", Target("http", "example.com", 80, "/", "example.com"), id="empty-path"
        ),
        pytest.param(
            "http://example.com?b=c",
            Target("http", "example.com", 80, "/?b=c", "example.com"),
            id="query-without-path",
        ),
        pytest.param(
            "http://example.com/?", Target("http", "example.com", 80, "/?", "example.com"), id="empty-query"
        ),
        pytest.param(
            "http://example.com:8080/",
            Target("http", "example.com", 8080, "/", "example.com:8080"),
            id="port",
        ),
        pytest.param(
            "http://example.com:/", Target("http", "example.com", 80, "/", "example.com:"), id="empty-port"
        ),
        pytest.param(
            "http://example.com:00080/",
            Target("http", "example.com", 80, "/", "example.com:00080"),
            id="port-with-zeros",
        ),
        pytest.param("http://h:1/", Target("http", "h", 1, "/", "h:1"), id="least-port"),
        pytest.param("http://h:65535/", Target("http", "h", 65535, "/", "h:65535"), id="greatest-port"),
        pytest.param(
            "HTTP://Example.COM/CaSe",
            Target("http", "example.com", 80, "/CaSe", "Example.COM"),
            id="only-scheme-and-host-lower-cased",
        ),
        pytest.param("http://10.0.0.1/", Target("http", "10.0.0.1", 80, "/", "10.0.0.1"), id="ipv4"),
        pytest.param(
            "http://[2001:DB8::1]/", Target("http", "2001:db8::1", 80, "/", "[2001:DB8::1]"), id="ipv6"
        ),
        pytest.param(
            "http://[::ffff:10.0.0.1]:81/",
            Target("http", "10.0.0.1", 81, "/", "[::ffff:10.0.0.1]:81"),
            id="ipv4-mapped-and-port",
        ),
        pytest.param(
            "http://a_b-c.example./", Target("http", "a_b-c.example", 80, "/", "a_b-c.example."), id="name"
        ),
        pytest.param(
            'http://h/a/../b//%2e%zz?q={"k":[1|2]}\\^`',
            Target("http", "h", 80, '/a/../b//%2e%zz?q={"k":[1|2]}\\^`', "h"),
            id="nothing-normalised",
        ),
        pytest.param("http://h/http://i/", Target("http", "h", 80, "/http://i/", "h"), id="uri-in-path"),
        pytest.param("http://h/a@b", Target("http", "h", 80, "/a@b", "h"), id="at-sign-in-path"),
    ],
)
def test_absolute_form(sent: str, target: Target) -> None:
    assert from_absolute_form(sent, "GET") == target


@pytest.mark.parametrize(
    ("sent", "method", "origin_form"),
    [
        pytest.param("http://h", "OPTIONS", "*", id="options-without-path"),
        pytest.param("http://h/", "OPTIONS", "/", id="options-with-path"),
        pytest.param("http://h?a", "OPTIONS", "/?a", id="options-with-query"),
        pytest.param("http://h", "options", "/", id="methods-have-case"),
    ],
)
def test_options(sent: str, method: str, origin_form: str) -> None:
    assert from_absolute_form(sent, method).origin_form == origin_form


@pytest.mark.parametrize("sent", ["/", "/hook?a=b", "//example.com/", "*"])
def test_a_request_that_is_not_for_a_proxy_is_told_how_to_use_it(sent: str) -> None:
    with pytest.raises(NotAProxyRequest, match="HTTP_PROXY") as refused:
        from_absolute_form(sent, "OPTIONS")
    assert refused.value.reason == "not_a_proxy_request"


NO_URI = "not an absolute URI"
NO_SCHEME = "neither http nor https"
NO_CHARACTERS = "characters that no URI has"
NO_HOST = "not a host with an optional port"
EMPTY = "empty, or a part of it"
CHARACTERS = "characters that no name has"
NOT_ASCII = "not ASCII"
TOO_LONG = "too long"
NUMBER = "reads as a number"
NO_IPV6 = "no IPv6 address"
ZONE = "a zone"
NO_PORT = "outside 1-65535"
USERINFO = "user information"

# What is refused in both forms.
AUTHORITIES = [
    pytest.param("", EMPTY, id="no-host"),
    pytest.param(":80", EMPTY, id="only-a-port"),
    pytest.param("h:0", NO_PORT, id="port-0"),
    pytest.param("h:65536", NO_PORT, id="port-65536"),
    pytest.param("h:99999", NO_PORT, id="port-99999"),
    pytest.param("h:000080", NO_HOST, id="port-of-six-digits"),
    pytest.param("h:+80", NO_HOST, id="port-with-sign"),
    pytest.param("h:8 0", NO_HOST, id="port-with-space"),
    pytest.param("h:8_0", NO_HOST, id="port-with-underscore"),
    pytest.param("h:-1", NO_HOST, id="negative-port"),
    pytest.param("h:http", NO_HOST, id="port-by-name"),
    pytest.param("h:\u0668\u0660", NO_HOST, id="port-in-other-digits"),
    pytest.param("h:80:80", NO_HOST, id="two-ports"),
    pytest.param("user@h:80", USERINFO, id="user"),
    pytest.param("user:secret@h:80", USERINFO, id="user-and-password"),
    pytest.param("@h:80", USERINFO, id="empty-user"),
    pytest.param("good.example@h:80", USERINFO, id="user-that-looks-like-a-host"),
    pytest.param("h%00:80", CHARACTERS, id="percent-encoding"),
    pytest.param("h,i:80", CHARACTERS, id="two-hosts"),
    pytest.param("h h:80", CHARACTERS, id="space-in-host"),
    pytest.param(" h:80", CHARACTERS, id="space-before-host"),
    pytest.param("h\\i:80", CHARACTERS, id="backslash"),
    pytest.param("h#:80", CHARACTERS, id="fragment-in-authority"),
    pytest.param("h\0:80", CHARACTERS, id="nul"),
    pytest.param("h\n:80", CHARACTERS, id="line-feed-in-host"),
    pytest.param("h:80\n", NO_HOST, id="line-feed-at-the-end"),
    pytest.param("h:80\r\nX: y", NO_HOST, id="a-field-behind-the-authority"),
    pytest.param("m\u00fcller:80", NOT_ASCII, id="non-ascii"),
    pytest.param("\u212a:80", NOT_ASCII, id="kelvin-sign-lower-cases-to-k"),
    pytest.param("h\udc80:80", NOT_ASCII, id="byte-that-is-not-utf-8"),
    pytest.param("a" * 256 + ":80", TOO_LONG, id="host-of-256"),
    pytest.param("a" * 64 + ".b:80", TOO_LONG, id="label-of-64"),
    pytest.param(".:80", EMPTY, id="dot"),
    pytest.param("a..b:80", EMPTY, id="empty-label"),
    pytest.param("127.1:80", NUMBER, id="ipv4-of-two-parts"),
    pytest.param("0x7f.1:80", NUMBER, id="ipv4-in-hex"),
    pytest.param("2130706433:80", NUMBER, id="ipv4-as-one-number"),
    pytest.param("127.0.0.01:80", NUMBER, id="ipv4-in-octal"),
    pytest.param("::1:80", NO_HOST, id="ipv6-without-brackets"),
    pytest.param("[]:80", NO_HOST, id="empty-brackets"),
    pytest.param("[::1:80", NO_HOST, id="no-closing-bracket"),
    pytest.param("[::1]80", NO_HOST, id="no-colon-before-port"),
    pytest.param("[fe80::1%25eth0]:80", ZONE, id="ipv6-with-zone"),
    pytest.param("[v1.a]:80", NO_HOST, id="address-of-the-future"),
    pytest.param("[h]:80", NO_HOST, id="name-in-brackets"),
    pytest.param("[cafe]:80", NO_HOST, id="name-of-hex-digits-in-brackets"),
    pytest.param("[10.0.0.1]:80", NO_HOST, id="ipv4-in-brackets"),
    pytest.param("[1::2::3]:80", NO_IPV6, id="ipv6-with-two-gaps"),
    pytest.param("[1:2:3:4:5:6:7:8:9]:80", NO_IPV6, id="ipv6-of-nine"),
]


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        pytest.param("", NO_URI, id="empty"),
        pytest.param("example.com", NO_URI, id="host-only"),
        pytest.param("example.com:80", NO_URI, id="authority-form"),
        pytest.param("http:/h/", NO_URI, id="one-slash"),
        pytest.param("http:h", NO_URI, id="no-slash"),
        pytest.param("://h/", NO_URI, id="empty-scheme"),
        pytest.param(" http://h/", NO_URI, id="space-before-scheme"),
        pytest.param("1http://h/", NO_URI, id="scheme-begins-with-digit"),
        pytest.param("http\u017f://h/", NO_URI, id="long-s-in-scheme"),
        pytest.param("ftp://h/", NO_SCHEME, id="ftp"),
        pytest.param("ws://h/", NO_SCHEME, id="ws"),
        pytest.param("http+unix://h/", NO_SCHEME, id="http-unix"),
        pytest.param("http://h/#", NO_CHARACTERS, id="empty-fragment"),
        pytest.param("http://h/a#b", NO_CHARACTERS, id="fragment"),
        pytest.param("http://h/a?b#c", NO_CHARACTERS, id="fragment-behind-query"),
        pytest.param("http://h/a b", NO_CHARACTERS, id="space"),
        pytest.param("http://h/ HTTP/1.1\r\nX: y", NO_CHARACTERS, id="a-second-request-line"),
        pytest.param("http://h/\t", NO_CHARACTERS, id="tab"),
        pytest.param("http://h/\r", NO_CHARACTERS, id="carriage-return"),
        pytest.param("http://h/\n", NO_CHARACTERS, id="line-feed"),
        pytest.param("http://h/\0", NO_CHARACTERS, id="nul"),
        pytest.param("http://h/\x7f", NO_CHARACTERS, id="delete"),
        pytest.param("http://h/\x85", NO_CHARACTERS, id="next-line"),
        pytest.param("http://h/\u00e4", NO_CHARACTERS, id="non-ascii"),
        pytest.param("http://h/\udc80", NO_CHARACTERS, id="byte-that-is-not-utf-8"),
    ],
)
def test_absolute_form_refused(sent: str, why: str) -> None:
    with pytest.raises(HttpRequestError, match=why) as refused:
        from_absolute_form(sent, "GET")
    assert (refused.value.status, refused.value.reason) == (400, "bad_request")


@pytest.mark.parametrize(("authority", "why"), AUTHORITIES)
def test_authority_refused_in_absolute_form(authority: str, why: str) -> None:
    with pytest.raises(HttpRequestError, match=why):
        from_absolute_form(f"http://{authority}/", "GET")


@pytest.mark.parametrize(
    ("sent", "host", "port"),
    [
        pytest.param("example.com:443", "example.com", 443, id="name"),
        pytest.param("Example.COM:443", "example.com", 443, id="lower-cased"),
        pytest.param("10.0.0.1:8443", "10.0.0.1", 8443, id="ipv4"),
        pytest.param("example.com.:443", "example.com", 443, id="dot-at-the-end"),
        pytest.param("[2001:DB8::1]:443", "2001:db8::1", 443, id="ipv6"),
        pytest.param("[2001:DB8:0:0::0001]:443", "2001:db8::1", 443, id="ipv6-in-a-longer-spelling"),
        pytest.param("[::FFFF:a00:1]:443", "10.0.0.1", 443, id="ipv4-mapped"),
        pytest.param("h:80", "h", 80, id="port-80"),
    ],
)
def test_authority_form(sent: str, host: str, port: int) -> None:
    assert from_authority_form(sent) == Target("", host, port, "", sent)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        *AUTHORITIES,
        pytest.param("h", "CONNECT needs a port", id="no-port"),
        pytest.param("h:", "CONNECT needs a port", id="empty-port"),
        pytest.param("[::1]", "CONNECT needs a port", id="ipv6-without-port"),
        pytest.param("h:443/", NO_HOST, id="path"),
        pytest.param("h:443?a", NO_HOST, id="query"),
        pytest.param("http://h:443", NO_HOST, id="absolute-form"),
        pytest.param("/", CHARACTERS, id="origin-form"),
        pytest.param("*", CHARACTERS, id="asterisk-form"),
    ],
)
def test_authority_form_refused(sent: str, why: str) -> None:
    with pytest.raises(HttpRequestError, match=why) as refused:
        from_authority_form(sent)
    assert (refused.value.status, refused.value.reason) == (400, "bad_request")


@pytest.mark.parametrize(
    ("sent", "host_port"),
    [
        pytest.param("Example.com:443", "example.com:443", id="name"),
        pytest.param("[2001:DB8::1]:443", "[2001:db8::1]:443", id="ipv6"),
    ],
)
def test_host_port_is_the_key_of_the_circuit(sent: str, host_port: str) -> None:
    assert from_authority_form(sent).host_port == host_port


@pytest.mark.parametrize(
    ("authority", "port", "over_tls"),
    [
        # Port 80, however it is written, becomes 443, which https:// needs not name.
        ("h", 443, "h"),
        ("h:80", 443, "h"),
        ("h:080", 443, "h"),
        ("h:", 443, "h"),
        ("H.example.", 443, "H.example."),
        ("[::1]", 443, "[::1]"),
        ("[::1]:", 443, "[::1]"),
        ("[::1]:80", 443, "[::1]"),
        ("[2001:db8::80]", 443, "[2001:db8::80]"),
        # Other ports stay.
        ("h:8080", 8080, "h:8080"),
        ("h:443", 443, "h:443"),
        ("h:8", 8, "h:8"),
        ("[::1]:8080", 8080, "[::1]:8080"),
    ],
)
def test_the_same_over_tls(authority: str, port: int, over_tls: str) -> None:
    for is_internal in (False, True):
        target = from_absolute_form(f"http://{authority}/a?b", "GET")._replace(is_internal=is_internal)
        expected = target._replace(scheme="https", port=port, authority=over_tls)
        assert target.over_tls() == expected
        again = from_absolute_form(f"https://{over_tls}/a?b", "GET")
        assert again._replace(is_internal=is_internal) == expected


@pytest.mark.parametrize(
    ("sent", "circuit", "internal"),
    [
        ("Example.com:443", "example.com:443", "example.com:443+internal"),
        ("[2001:DB8::1]:443", "[2001:db8::1]:443", "[2001:db8::1]:443+internal"),
    ],
)
def test_an_internal_upstream_has_a_circuit_of_its_own_under_the_same_name(
    sent: str, circuit: str, internal: str
) -> None:
    target = from_authority_form(sent)
    assert (target.circuit, target.host_port) == (circuit, circuit)
    target = target._replace(is_internal=True)
    assert (target.circuit, target.host_port) == (internal, circuit)
    # No client can name that circuit.
    with pytest.raises(HttpRequestError):
        from_authority_form(internal)


def test_one_circuit_for_both_forms() -> None:
    assert from_absolute_form("http://A.example/x", "GET").host_port == "a.example:80"
    assert from_authority_form("a.EXAMPLE:80").host_port == "a.example:80"
    assert from_authority_form("a.example.:80").host_port == "a.example:80"


VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#")
HOST = re.compile(r"[a-z0-9._-]+")
# What a peer would try, mixed with everything else.
hostile = st.text(
    st.one_of(st.sampled_from("aZ0.-_:[]@/?#%\\* \t\r\n\0\x7f\x85\xa0\u0130\u212a\udc80"), st.characters()),
    max_size=30,
)
schemes = st.sampled_from(["http", "https", "HtTp", "ftp", ""])
labels = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=20)
names = st.builds(
    "{}.{}{}".format, labels, st.sampled_from(["a", "B-", "_1", "xn--p1ai"]), st.sampled_from([".", ""])
)
addresses = st.ip_addresses(v=6).map(lambda address: f"[{address.compressed.upper()}]")
hosts = st.one_of(names, addresses)
ports = st.one_of(st.just(""), st.integers(1, 65535).map(":{}".format))
paths = st.one_of(st.just(""), st.builds("{}{}".format, st.sampled_from("/?"), st.text(VISIBLE, max_size=40)))


def is_safe(target: Target) -> bool:
    """Whether a target can be written into a request line, and nothing more than one host was named."""
    if ":" in target.host:
        IPv6Address(target.host)
    elif not HOST.fullmatch(target.host):
        return False
    return 1 <= target.port <= 65535 and set(target.origin_form) <= set(VISIBLE)


@given(
    st.one_of(
        hostile,
        st.builds("{}://{}".format, schemes, hostile),
        st.builds("http://{}{}/{}".format, hosts, ports, hostile),
    ),
    st.sampled_from(["GET", "OPTIONS"]),
)
@example("http://h/\udc80", "GET")
@example("http://[::::]/", "GET")
def test_whatever_comes_in_absolute_form_is_safe_or_refused(sent: str, method: str) -> None:
    try:
        target = from_absolute_form(sent, method)
    except HttpRequestError:
        return
    assert is_safe(target)
    assert target.origin_form == "*" or target.origin_form.startswith("/")


@given(st.one_of(hostile, st.builds("{}:{}".format, hostile, ports), st.builds("[{}]:443".format, hostile)))
@example("h:\u0664")
@example("[.:]:443")
def test_whatever_comes_in_authority_form_is_safe_or_refused(sent: str) -> None:
    try:
        target = from_authority_form(sent)
    except HttpRequestError:
        return
    assert is_safe(target)
    assert target.origin_form == ""


@given(hosts, ports, paths)
def test_the_path_goes_on_as_sent_and_the_host_normalised(host: str, port: str, path: str) -> None:
    target = from_absolute_form(f"http://{host}{port}{path}", "GET")
    assert target.origin_form == (path if path.startswith("/") else "/" + path)
    assert target.authority == host + port
    assert target.host == normalised(host.strip("[]"))
    assert target.port == int(port[1:] or 80)


@given(host=hosts, port=st.integers(1, 65535), is_internal=st.booleans())
def test_the_name_of_a_circuit_leads_back_to_its_target(host: str, port: int, *, is_internal: bool) -> None:
    target = from_authority_form(f"{host}:{port}")._replace(is_internal=is_internal)
    assert CircuitName.parse(target.circuit) == (target.host, port, is_internal, "")
    assert str(CircuitName.parse(target.circuit)) == target.circuit
