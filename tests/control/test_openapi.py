"""The document says what the router leads to; that it is true is tests/system/test_openapi_document.py."""

import json
import re
from typing import Any

from support.api import AdminPort, get, serving
from support.circuits import HOST

from proxy.control.openapi import document


def described(port: AdminPort) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(document(port.api.operations()))
    return told


def test_it_has_each_route_and_no_other() -> None:
    port = AdminPort()
    routes = {
        (route.method, route.resource.canonical)
        for route in port.application().router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/api/")
    }
    routes -= {(method, path) for method, path in routes if method == "HEAD"}
    paths = described(port)["paths"]
    told = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert told == routes - {("GET", "/api/v1/openapi.json")}


def test_every_reference_leads_somewhere_and_every_name_is_its_own() -> None:
    told = described(AdminPort())
    text = json.dumps(told)
    schemas = told["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in schemas
    ids = [one["operationId"] for methods in told["paths"].values() for one in methods.values()]
    assert len(set(ids)) == len(ids)
    assert "ProblemView" in schemas


async def test_it_is_served() -> None:
    port = AdminPort()
    async with serving(port.application()) as client:
        told = await get(client, "/api/v1/openapi.json")
    assert told == described(port)
    assert told["openapi"] == "3.1.0"
    assert {"token": []} in told["security"]


async def test_the_keys_that_are_told_are_those_that_are_described() -> None:
    port = AdminPort()
    port.rig.fail(5, 0.0)
    schemas = described(port)["components"]["schemas"]
    async with serving(port.application()) as client:
        page = await get(client, "/api/v1/circuits")
        one = await get(client, f"/api/v1/circuits/{HOST}")
    assert page.keys() == schemas["CircuitsView"]["properties"].keys()
    assert page["circuits"][0].keys() == schemas["CircuitView"]["properties"].keys()
    assert one.keys() == schemas["CircuitDetail"]["properties"].keys()
    assert set(schemas["CircuitDetail"]["required"]) == one.keys()


def test_contents_of_requests_are_described_with_their_bounds() -> None:
    schemas = described(AdminPort())["components"]["schemas"]
    assert schemas["ForcingWish"]["additionalProperties"] is False
    assert schemas["ForcingWish"]["properties"]["note"]["maxLength"] == 200
    assert schemas["Wish"]["properties"].keys() == {"note"}
