"""Node's WebSocket (undici's), through intercepted TLS and through a tunnel of it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from support import certificates
from support.process import PATIENCE_S, RunningProxy
from system.adapters import HERE, environment
from system.caller import HOST
from websockets.sync.server import ServerConnection, serve


@contextmanager
def echo(seen: list[bool]) -> Iterator[str]:
    """A server that says what it hears and keeps whether the proxy was seen; gives its URL."""

    def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append("Via" in connection.request.headers)
        for message in connection:
            connection.send(message)

    with serve(handle, "127.0.0.1", 0, ssl=certificates.server(HOST)) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        yield f"wss://{HOST}:{server.socket.getsockname()[1]}/echo"
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("https", ["intercept", "tunnel"])
def test_messages_go_both_ways_and_the_close_is_kept(https: str, names: str, tmp_path: Path) -> None:
    seen: list[bool] = []
    upstreams = [{"match": HOST, "https": https, "tls": {"ca": certificates.authority_path()}}]
    intercept = {"ephemeral": True, "directory": str(tmp_path)} if https == "intercept" else {}
    bundle = tmp_path / "ca-bundle.crt" if https == "intercept" else Path(certificates.authority_path())
    with RunningProxy(upstreams=upstreams, intercept=intercept, dns={"servers": [names]}) as proxy:
        with echo(seen) as url:
            done = subprocess.run(
                ["node", "node/websocket.mjs", url],
                cwd=HERE,
                env=environment(proxy.url) | {"NODE_EXTRA_CA_CERTS": str(bundle)},
                input="hello\nthere\n",
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
    assert (done.returncode, done.stdout) == (0, "hello\nthere\nclosed 1000 done\n"), done.stderr
    assert seen == [https == "intercept"]
