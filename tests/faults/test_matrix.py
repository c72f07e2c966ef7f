"""Each cell of the fault matrix, provoked with real sockets by the entry that it is for."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from faults import by_clients, by_proxy, by_tls, by_upstreams
from faults.document import cells
from faults.matrix import MATRIX
from faults.rows import Cell, Row
from faults.stage import Stage
from support.sidecar import Start

from proxy.core.exchange import Entry

PROVOKE = by_upstreams.PROVOKE | by_tls.PROVOKE | by_clients.PROVOKE | by_proxy.PROVOKE
# Far longer than any fault takes; who waits in vain fails by it.
PATIENCE_S = 10.0
ROWS = {name: row for rows in MATRIX.values() for name, row in rows.items()}


CELLS = [
    pytest.param(name, entry, cell, id=f"{name}-{entry.value}")
    for name, row in ROWS.items()
    for entry, cell in cells(row).items()
    if isinstance(cell, Cell)
]


@pytest.mark.parametrize(("name", "entry", "cell"), CELLS)
async def test_cell(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    entry: Entry,
    cell: Cell,
) -> None:
    async with AsyncExitStack() as ends:
        stage = Stage(entry, start, monkeypatch, ends)
        async with asyncio.timeout(PATIENCE_S):
            await PROVOKE[name](stage)
            assert await stage.result() == cell


def test_every_row_can_be_provoked_and_has_a_name_of_its_own() -> None:
    assert sum(len(rows) for rows in MATRIX.values()) == len(ROWS)
    assert set(PROVOKE) == set(ROWS)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_has_a_cell_and_a_reason_where_it_has_none(row: Row) -> None:
    # What was deferred ends with nobody's answer; it walks the same line.
    assert set(cells(row)) == set(Entry) - {Entry.DEFERRED}
    assert any(isinstance(cell, Cell) for cell in cells(row).values())
    assert all(cells(row).values())
