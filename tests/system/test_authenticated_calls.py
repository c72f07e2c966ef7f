"""Each client gives the name and the token of its proxy's URL, and shows that they are wrong."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.credentials import OTHER, TOKEN, line
from support.outage import LocalUpstream, received
from support.process import Reply, RunningProxy, until
from system.adapters import Answerless, Ask, environment
from system.caller import HOST
from system.kinds import CONNECTING, KINDS, Kind


@pytest.fixture(scope="session")
def asking(names: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """A proxy that asks for a token."""
    tokens = tmp_path_factory.mktemp("credentials") / "tokens"
    tokens.write_text(line("web.1"))
    listen = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0", "credentials_file": str(tokens)}
    log = {"access": "all"}
    with RunningProxy(listen=listen, log=log, dns={"servers": [names]}) as proxy:
        yield proxy


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def call(
    kind: Kind, proxy: RunningProxy, token: str | None, folder: pytest.TempPathFactory, *asks: Ask
) -> list[Reply]:
    """Calls with a new client; of an answer that it does not show, the status."""
    user = "" if token is None else f"web.1:{token}@"
    with ExitStack() as resources:
        url = f"http://{user}127.0.0.1:{proxy.proxy_port}"
        client = resources.enter_context(kind.start(folder.mktemp("client"), environment(url)))
        try:
            return client(*asks)
        except Answerless as error:
            refused = kind.refused.format(status=407, reason="Proxy authentication required")
            if any(said and said in str(error) for said in (refused, kind.unauthorized)):
                return [Reply(407)] * len(asks)
            raise


def test_a_token_lets_in(kind: Kind, asking: RunningProxy, tmp_path_factory: pytest.TempPathFactory) -> None:
    with LocalUpstream(HOST) as upstream:
        asks = Ask(upstream.url), Ask(upstream.url, "POST", b"event")
        replies = call(kind, asking, TOKEN, tmp_path_factory, *asks)
        assert [reply.status for reply in replies] == [200, 200]
        assert json.loads(replies[1].content) == received("POST", b"event")
        assert upstream.seen == ["GET /hook?event=1", "POST /hook?event=1"]


@pytest.mark.parametrize("kind", CONNECTING, indirect=True)
def test_a_token_opens_a_tunnel(
    kind: Kind, asking: RunningProxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # No TLS is spoken there, so the call fails; but only behind the 200.
    with LocalUpstream(HOST) as upstream:
        with pytest.raises((Answerless, AssertionError)):
            call(kind, asking, TOKEN, tmp_path_factory, Ask(f"https://{upstream.authority}/"))

        def owners() -> set[str]:
            tunnels = [line for line in asking.lines if line.get("upstream") == upstream.authority]
            return {line["client_name"] for line in tunnels if line["event"] == "exchange ended"}

        until(lambda: owners() == {"web.1"}, "there was no tunnel")


@pytest.mark.parametrize("token", [OTHER, None], ids=["wrong", "none"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_without_one_nobody_gets_in(
    kind: Kind,
    asking: RunningProxy,
    tmp_path_factory: pytest.TempPathFactory,
    token: str | None,
    scheme: str,
) -> None:
    with LocalUpstream(HOST) as upstream:
        (reply,) = call(kind, asking, token, tmp_path_factory, Ask(f"{scheme}://{upstream.authority}/"))
        assert reply.status == 407
        assert upstream.seen == []
