"""What an upgrade would do, told from the database alone."""

from pathlib import Path

import pytest
from sqlalchemy import text

from hearth.store.sql.address import Address, parse_address
from hearth.store.sql.exporting import head
from hearth.store.sql.migrating import DatabaseTooNew, make_engine, migrate
from hearth.store.sql.upgrading import look

pytestmark = pytest.mark.anyio


@pytest.fixture
def address(tmp_path: Path) -> Address:
    return parse_address("", tmp_path)


async def test_steps_that_are_pending_are_named_oldest_first(address: Address) -> None:
    await migrate(address, "0007")
    found = await look(address)
    assert (found.schema, found.head) == ("0007", head())
    assert [step[:4] for step in found.pending][:2] == ["0008", "0009"]
    assert found.pending[-1].startswith(head())
    assert all(len(step) > len("0008 ") for step in found.pending), "each says what it does"
    await migrate(address)
    assert (await look(address)).pending == ()


async def test_data_of_a_newer_version_is_said(address: Address) -> None:
    await migrate(address)
    engine = make_engine(address)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(DatabaseTooNew, match="9999"):
        await look(address)
