"""Writes proxy/control/descriptions.json anew, from the comments of config.example.yaml: `make descriptions`.

What a key means is written once, above it in that file. What stands in lists there, under `upstreams` and
`routes`, has its words here.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.yaml"
WRITTEN = ROOT / "proxy" / "control" / "descriptions.json"

IN_LISTS = {
    "upstreams[].match": "Which upstreams the entry is for: a host with an optional port, such as "
    'api.example.com, "api.example.com:8443", "*.example.com" (any depth, not example.com itself), or "*".',
    "upstreams[].https": "What becomes of their HTTPS. tunnel: bytes pass unseen. intercept: the proxy ends "
    "the client's TLS, and so sees each status. originate: clients speak http://, and the proxy https:// for "
    "them.",
    "upstreams[].fallback": "What becomes of the requests that a circuit refuses: reject, a redirect, or "
    "defer. See docs/fallback.md.",
    "upstreams[].fallback.redirect": "The URL where they go instead; {scheme}, {host}, {port}, {path} and "
    "{query} of the request may stand in its path and query.",
    "upstreams[].fallback.internal": "Whether that may be called whatever the class of its address (see "
    "egress).",
    "upstreams[].fallback.on": "refusal: when a circuit refuses. failure: also when the attempt fails before "
    "any byte of an answer, and the content is still whole.",
    "upstreams[].fallback.defer": "Whether they are stored, answered 202, and delivered when the circuit "
    "lets calls through (see defer).",
    "upstreams[].fallback.order": "loose: deferred requests keep their order. strict: live ones wait behind "
    "them.",
    "upstreams[].tls": "How the proxy itself speaks TLS to them; it always verifies them.",
    "upstreams[].tls.ca": "A file of certificates (PEM) to trust instead of the system's.",
    "upstreams[].tls.client_cert": "A file (PEM) with the certificate to show where one is asked for.",
    "upstreams[].tls.client_key": "A file (PEM) with its key; without one, the key is in client_cert.",
    "upstreams[].tls.server_name": "The name to ask for and to verify, in place of the host.",
    "upstreams[].tls.min_version": "The least version of TLS that is spoken.",
    "routes[].host": "Which host clients ask for, a pattern as in upstreams; without it, any.",
    "routes[].path": "Where the route begins; the upstream's own path takes its place.",
    "routes[].upstream": "Where it leads, such as http://10.0.0.7:8080/base.",
    "routes[].internal": "Whether the upstream may be called whatever the class of its address (see egress).",
}

_KEY = re.compile(r"(?P<indent> *)(?P<name>[a-z_]+):(?: |$)")
_COMMENT = re.compile(r" *#(?: (?P<text>.*))?$")


def descriptions(example: str) -> dict[str, str]:
    """What each key of the example means, by its dotted name.

    Of a comment its first paragraph counts. A key right below another one without a comment of its own shares
    that one's, or that of the section around it.

    Args:
        example: the text of the file.
    """
    found: dict[str, str] = {}
    path: list[str] = []
    comment: list[str] = []
    told = ""
    for line in example.splitlines():
        if said := _COMMENT.fullmatch(line):
            comment.append(said["text"] or "")
            continue
        if key := _KEY.match(line):
            depth = len(key["indent"]) // 2
            told = _first_paragraph(comment) or ("" if depth == 0 else told)
            path = [*path[:depth], key["name"]]
            if told:
                found[".".join(path)] = told
        comment = []
    return found | IN_LISTS


def _first_paragraph(comment: list[str]) -> str:
    end = comment.index("") if "" in comment else len(comment)
    return " ".join(line.strip() for line in comment[:end])


def text() -> str:
    """The file as it is to be."""
    found = descriptions(EXAMPLE.read_text(encoding="utf-8"))
    return f"{json.dumps(found, indent=1, ensure_ascii=False)}\n"


if __name__ == "__main__":
    WRITTEN.write_text(text(), encoding="utf-8")
