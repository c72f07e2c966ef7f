"""The files of the live page: how they are served, and that nothing in them reaches beyond this proxy."""

import re
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from support.api import AdminPort, refusal, serving

from proxy.control import page

FOLDER = Path(page.__file__).parent / "static"
VENDOR = FOLDER / "vendor"
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
NAMES = sorted(page.static_files())
OURS = [name for name in NAMES if not name.startswith("vendor/")]
INDEX = (FOLDER / "index.html").read_text(encoding="utf-8")
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# What a text may name that no browser asks for.
NAMESPACES = {"http://www.w3.org/2000/svg"}


def path_of(name: str) -> str:
    return "/" if name == "index.html" else f"/static/{name}"


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
async def test_each_file_is_served_as_it_lies_there(name: str) -> None:
    async with serving(AdminPort().application()) as client:
        answer = await client.get(path_of(name), headers=HTML)
        head = await client.head(path_of(name), headers=HTML)
    assert (answer.status_code, answer.content) == (200, (FOLDER / name).read_bytes())
    assert answer.headers["Content-Type"] == TYPES[name.rpartition(".")[2]]
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.content))
    assert head.headers["ETag"] == answer.headers["ETag"]


def directives(answer: httpx.Response) -> dict[str, str]:
    stated = (each.strip().partition(" ") for each in answer.headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in stated}


@pytest.mark.parametrize("name", ["index.html", "main.js", "icon.svg"])
async def test_it_may_load_and_call_nothing_but_its_own(name: str) -> None:
    async with serving(AdminPort().application()) as client:
        answer = await client.get(path_of(name), headers=HTML)
    assert directives(answer) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "Server" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/static/main.js"])
async def test_what_a_browser_has_is_not_sent_again(path: str) -> None:
    async with serving(AdminPort().application()) as client:
        whole = await client.get(path, headers=HTML)
        etag = whole.headers["ETag"]
        for shown in (etag, f'"other", W/{etag}', "*"):
            answer = await client.get(path, headers={**HTML, "If-None-Match": shown})
            assert (answer.status_code, answer.content) == (304, b"")
            for field in ("ETag", "Content-Type", "Cache-Control", "Content-Security-Policy"):
                assert answer.headers[field] == whole.headers[field]
        answer = await client.get(path, headers={**HTML, "If-None-Match": '"other"'})
        assert (answer.status_code, answer.content) == (200, whole.content)


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (HTML["Accept"], True),
        ("TEXT/HTML;q=0.9", True),
        ("application/json, text/html", True),
        ("*/*", False),
        ("text/plain", False),
        ("text/htmlx", False),
        ("", False),
    ],
)
async def test_browsers_get_the_page_and_others_a_list_of_paths(accept: str, *, is_page: bool) -> None:
    async with serving(AdminPort().application()) as client:
        answer = await client.get("/", headers={"Accept": accept})
    kind = "text/html; charset=utf-8" if is_page else "text/plain; charset=utf-8"
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)
    # What lies between must not give the one for the other.
    assert answer.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    "path",
    [
        "/static",
        "/static/",
        "/static/index.html",
        "/static/nothing.js",
        "/static/main.js/",
        "/static/main.js%00",
        "/static/MAIN.JS",
        "/static//main.js",
        "/static/vendor/",
        "/static/vendor/README.md",
        "/static/vendor/uplot/LICENSE",
        "/static/%2e%2e/page.py",
        "/static/..%2Fpage.py",
        "/static/..%5Cpage.py",
        "/static/vendor/..%2F..%2F..%2Fpage.py",
        "/static/%2Fetc%2Fpasswd",
    ],
)
async def test_no_other_path_is_a_file(path: str) -> None:
    async with serving(AdminPort().application()) as client:
        assert refusal(await client.get(path)) == (404, "not_found")
        assert refusal(await client.post("/static/main.js")) == (405, "method_not_allowed")


async def test_it_is_for_everybody_and_what_it_shows_is_not() -> None:
    class NobodysToken:
        def check(self, token: str) -> bool:
            return not token

    async with serving(AdminPort(token=NobodysToken()).application()) as client:
        for name in NAMES:
            answer = await client.get(path_of(name), headers={**HTML, "Host": "any.test"})
            assert answer.status_code == 200
        assert (await client.get("/static/nothing.js")).status_code == 401
        assert (await client.get("/api/v1/circuits", headers=HTML)).status_code == 401


def referred(name: str) -> set[str]:
    """The files that a file has the browser load, by their names."""
    text = text_of(name)
    if name.endswith(".js"):
        return set(re.findall(r'^(?:import|\} from) .*?"\./([^"]+)"', text, re.MULTILINE))
    return {each.removeprefix("/static/") for each in re.findall(r'(?:src|href)="([^"#]+)"', text)}


def test_all_that_is_served_is_used_and_all_that_is_used_is_served() -> None:
    loaded, ahead = set[str](), {"index.html"}
    while ahead:
        name = ahead.pop()
        loaded.add(name)
        if name in OURS:
            ahead |= referred(name) - loaded
    assert loaded == set(NAMES)


@pytest.mark.parametrize("name", OURS)
def test_nothing_names_another_origin(name: str) -> None:
    found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w[^\s\"'`<)]*", text_of(name)))
    # What the empty table says to type.
    assert found - NAMESPACES - {"http://example.com/"} == set()


@pytest.mark.parametrize("name", OURS)
def test_nothing_makes_markup_or_code_of_text(name: str) -> None:
    unsafe = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|\.cssText"
    )
    assert re.findall(unsafe, text_of(name)) == []


def test_nothing_is_inline() -> None:
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", INDEX) == []
    assert re.findall(r"<style\b|\sstyle=|\son\w+=|javascript:", INDEX) == []


def test_every_element_that_is_looked_up_is_there() -> None:
    wanted = {each for name in OURS for each in re.findall(r'byId\("([^"]+)"\)', text_of(name))}
    assert len(wanted) > 20
    assert wanted - set(re.findall(r'\bid="([^"]+)"', INDEX)) == set()


def test_the_vendored_files_are_those_of_their_note() -> None:
    note = (VENDOR / "README.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"\| `(\S+)` \| `\S+` \| `([0-9a-f]{64})` \|", note))
    lying = {each.relative_to(VENDOR).as_posix(): each for each in VENDOR.rglob("*") if each.is_file()}
    del lying["README.md"]
    assert told == {name: sha256(each.read_bytes()).hexdigest() for name, each in lying.items()}
    version = re.search(r"uPlot\]\(\S+\) ([\d.]+)", note)
    assert version is not None
    assert f"(v{version[1]})" in text_of("vendor/uplot/uPlot.iife.min.js")[:200]
