"""The API, asked by a real client."""

from typing import Any
from urllib.parse import quote

import pytest
import structlog.testing
from aiohttp import web
from support.api import CIRCUITS, AdminPort, get, refusal, serving
from support.circuits import HOST, REFUSED, policy

from proxy import __version__
from proxy.core.exchange import Awaited
from proxy.core.host_pattern import HostPattern
from proxy.core.overlay import Overlay
from proxy.core.policy import Limits, Mode, Settings, Upstream
from proxy.core.scope import CircuitKey
from proxy.core.states import Condition

ONE = f"{CIRCUITS}/{HOST}"
ENDPOINT = f"{HOST}#0123456789abcdef"


def endpoints(port: AdminPort) -> None:
    port.rig.policy = policy(key=CircuitKey.parse("path"))
    port.rig.answer(500, 1.0, endpoint=ENDPOINT)


async def test_a_list_with_what_is_in_the_table() -> None:
    port = AdminPort()
    port.rig.fail(5, 0.0, "b.test:80")
    port.rig.succeed(2, 0.0, "a.test:80")
    async with serving(port.application()) as client:
        page = await get(client, CIRCUITS)
        assert [circuit["key"] for circuit in page["circuits"]] == ["b.test:80", "a.test:80"]
        assert page["states"] == dict.fromkeys((each.value for each in Condition), 0) | {
            "open": 1,
            "closed": 1,
        }
        assert (page["total"], page["calls"], page["failed"], page["rejected"]) == (2, 7, 5, 0)
        assert page["limit_of_table"] == Limits().max_circuits
        # What time has made due is seen.
        port.clock.now = 30.0
        page = await get(client, f"{CIRCUITS}?state=half_open")
        assert [circuit["key"] for circuit in page["circuits"]] == ["b.test:80"]
        assert page["total"] == 1


async def test_the_totals_are_of_a_moment_that_is_told() -> None:
    port = AdminPort(limits=Limits(max_circuits=2))
    port.rig.policy = policy(consecutive_failures=1, recovery_threshold=1)
    async with serving(port.application()) as client:
        page = await get(client, CIRCUITS)
        assert (page["at"], page["in_flight"], page["spared_s"]) == ("2001-09-09T01:46:40.000+00:00", 0, 0.0)
        for host, upstream_s, refusals in (("a.test:80", 2.0, 3), ("b.test:80", 0.25, 1)):
            permit, _ = port.rig.waiting(Awaited.CONNECTION, 0.0, host)
            with permit:
                permit.settle(REFUSED, upstream_s)
            for _ in range(refusals):
                assert not port.rig.passes(upstream_s, host)
        port.clock.now = 2.5
        page = await get(client, f"{CIRCUITS}?sort=spared_s")
        assert (page["at"], page["rejected"], page["spared_s"]) == ("2001-09-09T01:46:42.500+00:00", 4, 6.25)
        assert [(each["key"], each["spared_s"]) for each in page["circuits"]] == [
            ("b.test:80", 0.25),
            ("a.test:80", 6.0),
        ]
        # What leaves the table stays in the totals.
        port.rig.succeed(1, 40.0, "a.test:80")
        port.rig.succeed(1, 41.0, "c.test:80")
        page = await get(client, f"{CIRCUITS}?sort=key")
        assert [each["key"] for each in page["circuits"]] == ["b.test:80", "c.test:80"]
        assert (page["spared_s"], page["rejected"], page["failed"], page["calls"]) == (6.25, 4, 2, 4)


async def test_a_call_of_an_endpoint_is_in_flight_once() -> None:
    port = AdminPort()
    endpoints(port)
    with (
        port.rig.admit(2.0, endpoint=ENDPOINT),
        port.rig.admit(2.0, endpoint=f"{HOST}#1"),
        port.rig.admit(2.0, "b.test:80"),
    ):
        async with serving(port.application()) as client:
            page = await get(client, CIRCUITS)
            assert page["in_flight"] == 3
            assert {each["key"]: each["in_flight"] for each in page["circuits"]} == {
                HOST: 2,
                ENDPOINT: 1,
                f"{HOST}#1": 1,
                "b.test:80": 1,
            }


async def test_a_large_table_by_pages() -> None:
    port = AdminPort()
    for number in range(1200):
        port.rig.fail(number % 5 + 1, 0.0, f"h{number:04}.test:80")
    async with serving(port.application()) as client:
        keys = []
        for offset in range(0, 1500, 300):
            page = await get(client, f"{CIRCUITS}?sort=key&limit=300&offset={offset}")
            assert page["total"] == 1200
            keys += [circuit["key"] for circuit in page["circuits"]]
        assert keys == [f"h{number:04}.test:80" for number in range(1200)]
        page = await get(client, f"{CIRCUITS}?limit=1000&sort=-failed")
        failed = [circuit["failed"] for circuit in page["circuits"]]
        assert len(failed) == 1000
        assert failed == sorted(failed, reverse=True)
        # Pages of those that are alike do not overlap.
        keys = []
        for offset in range(0, 1200, 300):
            page = await get(client, f"{CIRCUITS}?sort=in_flight&limit=300&offset={offset}")
            keys += [circuit["key"] for circuit in page["circuits"]]
        assert len(set(keys)) == 1200


@pytest.mark.parametrize("key", [HOST, HOST.upper(), quote(HOST, safe="")])
async def test_one_circuit_however_its_host_is_spelled(key: str) -> None:
    port = AdminPort()
    port.rig.fail(5, 0.0)
    async with serving(port.application()) as client:
        circuit = await get(client, f"{CIRCUITS}/{key}")
    assert (circuit["key"], circuit["state"]) == (HOST, "open")
    assert circuit["settings"]["consecutive_failures"] == {"value": 5, "origin": "default"}
    assert len(circuit["transitions"]) == 1


@pytest.mark.parametrize("key", ["[::1]:80", "10.0.0.7:8080+internal", "a_b.test:1"])
async def test_any_key_of_a_list_leads_to_its_circuit(key: str) -> None:
    port = AdminPort()
    port.rig.fail(5, 0.0, key)
    async with serving(port.application()) as client:
        (listed,) = (await get(client, CIRCUITS))["circuits"]
        one = await get(client, f"{CIRCUITS}/{quote(listed['key'], safe='')}")
        assert one["key"] == key


async def test_an_endpoint_is_apart_from_its_host() -> None:
    port = AdminPort()
    endpoints(port)
    async with serving(port.application()) as client:
        one = await get(client, f"{CIRCUITS}/{quote(ENDPOINT)}")
        assert (one["key"], one["host"], one["scope"]) == (ENDPOINT, HOST, "endpoint")
        answer = await client.post(f"{CIRCUITS}/{quote(ENDPOINT)}/open", json={})
        assert answer.json()["state"] == "forced_open"
        assert (await get(client, ONE))["state"] == "closed"


@pytest.mark.parametrize(
    ("action", "state", "reason"),
    [
        ("open", "forced_open", "forced_open"),
        ("close", "forced_closed", "forced_closed"),
        ("reset", "closed", "reset"),
    ],
)
async def test_an_action_and_its_effect(action: str, state: str, reason: str) -> None:
    port = AdminPort()
    port.rig.fail(5, 0.0)
    async with serving(port.application()) as client:
        with structlog.testing.capture_logs() as lines:
            answer = await client.post(f"{ONE}/{action}", json={"note": "they mend it"})
        assert answer.status_code == 200
        steered: dict[str, Any] = answer.json()
        assert steered == await get(client, ONE)
    assert (steered["state"], steered["reason"]) == (state, reason)
    assert steered["transitions"][0]["note"] == "they mend it"
    assert port.rig.heard[-1].note == "they mend it"
    assert lines == [
        {
            "event": "circuit steered",
            "log_level": "info",
            "circuit": HOST,
            "action": action,
            "ttl_s": None,
            "note": "they mend it",
            "caller": "127.0.0.1",
        }
    ]


async def test_auto_ends_what_was_forced_and_says_why() -> None:
    port = AdminPort()
    async with serving(port.application()) as client:
        await client.post(f"{ONE}/open", json={"ttl": "10m"})
        steered = (await client.post(f"{ONE}/auto", json={"note": "it works"})).json()
        assert (steered["state"], steered["override"]) == ("half_open", None)
        assert steered["transitions"][0]["note"] == "it works"
        # Again it changes nothing.
        again = (await client.post(f"{ONE}/auto", json={})).json()
        assert again["transitions"] == steered["transitions"]


async def test_a_ttl_ends_by_itself() -> None:
    port = AdminPort()
    async with serving(port.application()) as client:
        steered = (await client.post(f"{ONE}/close", json={"ttl": "10m", "note": "n"})).json()
        assert steered["override"] == {"force": "closed", "note": "n", "ttl_left_s": 600.0}
        port.clock.now = 600.0
        ended = await get(client, ONE)
        assert (ended["state"], ended["override"], ended["reason"]) == ("closed", None, "override_ended")


async def test_a_host_may_be_forced_before_it_was_ever_called() -> None:
    port = AdminPort(settings=Settings(upstreams=(Upstream(match=HostPattern("new.test")),)))
    async with serving(port.application()) as client:
        for key in ("new.test:443", "10.0.0.7:80+internal"):
            answer = await client.post(f"{CIRCUITS}/{key}/open", json={})
            assert (answer.status_code, answer.json()["state"]) == (200, "forced_open")
        assert len(port.rig.circuits) == 2


@pytest.mark.parametrize("action", ["open", "close", "reset", "auto"])
@pytest.mark.parametrize(
    "key",
    [
        "no.test",
        "no.test:0",
        "no.test:80#x",
        "no.test:80%23",
        "no.test:80#0123456789abcdef",
        "..",
        "%2e%2e",
        "a%2Fb:80",
        "a%00b:80",
        "%C3%A9.test:80",
        "%ED%A0%80:80",
        "x" * 7000,
        "127.1:80",
        "a%20b:80",
        "a%0D%0Ab:80",
    ],
)
async def test_what_names_no_circuit_makes_none(action: str, key: str) -> None:
    port = AdminPort()
    async with serving(port.application()) as client:
        for path in (f"{CIRCUITS}/{key}", f"{CIRCUITS}/{key}/{action}"):
            method = "GET" if path.endswith(key) else "POST"
            answer = await client.request(method, path.replace("#", "%23"), json={})
            assert answer.status_code == 404
            assert refusal(answer) in {(404, "no_such_circuit"), (404, "not_found")}
            assert "x" * 100 not in answer.text
    assert len(port.rig.circuits) == 0


@pytest.mark.parametrize("action", ["reset", "auto"])
async def test_a_circuit_that_is_not_there_is_not_reset(action: str) -> None:
    async with serving(AdminPort().application()) as client:
        assert refusal(await client.get(ONE)) == (404, "no_such_circuit")
        assert refusal(await client.post(f"{ONE}/{action}", json={})) == (404, "no_such_circuit")


async def test_where_circuits_are_not_asked_none_is_forced() -> None:
    settings = Settings(
        upstreams=(Upstream(match=HostPattern("*"), circuit=Overlay({"mode": Mode.DISABLED})),)
    )
    async with serving(AdminPort(settings=settings).application()) as client:
        assert refusal(await client.post(f"{ONE}/open", json={})) == (409, "circuit_disabled")


async def test_a_full_table_takes_no_other() -> None:
    port = AdminPort(limits=Limits(max_circuits=1))
    async with serving(port.application()) as client:
        assert (await client.post(f"{CIRCUITS}/a.test:80/open", json={})).status_code == 200
        assert refusal(await client.post(f"{CIRCUITS}/b.test:80/open", json={})) == (503, "no_room")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", CIRCUITS, "GET,HEAD"),
        ("DELETE", ONE, "GET,HEAD"),
        ("GET", f"{ONE}/open", "POST"),
        ("OPTIONS", f"{ONE}/open", "POST"),
        ("PUT", "/api/v1/config", "GET,HEAD"),
        ("POST", "/api/v1/openapi.json", "GET,HEAD"),
    ],
)
async def test_other_methods_are_refused_with_those_that_there_are(
    method: str, path: str, allowed: str
) -> None:
    async with serving(AdminPort().application()) as client:
        answer = await client.request(method, path)
        assert refusal(answer) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize("path", [CIRCUITS, ONE, "/api/v1/config", "/api/v1/version", "/api/v1/openapi.json"])
async def test_head_is_get_without_content(path: str) -> None:
    port = AdminPort()
    port.rig.fail(5, 0.0)
    async with serving(port.application()) as client:
        answer, got = await client.head(path), await client.get(path)
        assert (answer.status_code, answer.content) == (got.status_code, b"") == (200, b"")
        assert answer.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize("path", [ONE, "/api/v1/config", "/api/v1/version", f"{CIRCUITS}?stat=open"])
async def test_unknown_parameters_are_refused(path: str) -> None:
    port = AdminPort()
    port.rig.fail(1, 0.0)
    async with serving(port.application()) as client:
        answer = await client.get(path if "?" in path else f"{path}?a=b")
        assert refusal(answer) == (400, "bad_request")


async def test_config_and_version() -> None:
    async with serving(AdminPort().application()) as client:
        assert (await get(client, "/api/v1/config"))["circuit"]["open"] == "30s"
        version = await get(client, "/api/v1/version")
    assert (version["version"], version["name"]) == (__version__, "testproxy")
    assert version["started_at"] == "2001-09-09T01:46:40.000+00:00"


async def test_a_fault_of_ours_tells_nothing() -> None:
    port = AdminPort()
    served = port.application()

    async def fails(_request: web.Request) -> web.Response:
        raise RuntimeError("secret")

    served.router.add_get("/api/v1/fails", fails)
    async with serving(served) as client:
        answer = await client.get("/api/v1/fails")
    assert answer.status_code == 500
    assert "secret" not in answer.text
