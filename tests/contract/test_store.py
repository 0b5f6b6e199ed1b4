"""The contract of DocumentStore over the embedded file and moto; the integration tier has it over a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.contract.moto_server import create_bucket, moto_server
from tests.contract.suites.s3 import S3World
from tests.contract.suites.store import StoreContract, World, listed
from worker.adapters.sqlite import Database, SqliteStore
from worker.ports import DocumentStore
from worker.settings import S3Settings


class Sqlite:
    versions_repeat = True
    any_key = True

    def __init__(self, folder: Path) -> None:
        self._path = folder / "worker.db"
        self.store: DocumentStore = self.another()
        self.source = (
            "from pathlib import Path; from worker.adapters.sqlite import Database, SqliteStore; "
            f"store = SqliteStore(Database(Path({str(self._path)!r})))"
        )

    def another(self) -> DocumentStore:
        return SqliteStore(Database(self._path))


class TestSqlite(StoreContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[World]:
        world = Sqlite(tmp_path)
        await world.store.start()
        yield world
        await world.store.stop()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


class TestMoto(StoreContract):
    @pytest.fixture
    async def world(self, moto: str) -> AsyncIterator[World]:
        settings = S3Settings(
            endpoint_url=moto,
            bucket=f"b-{uuid4()}",
            prefix="verdicts/",
            access_key="any",
            secret_key=SecretStr("any"),
            connections_max=8,  # it serves one at a time
        )
        create_bucket(moto, settings.bucket)
        world = S3World(settings)
        await world.store.start()
        yield world
        await world.store.stop()


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(TEXT.filter(bool), max_size=8), prefix=TEXT, after=TEXT)
def test_any_prefix_lists_as_the_rule_says(tmp_path: Path, keys: set[str], prefix: str, after: str) -> None:
    async def run() -> None:
        store = SqliteStore(Database(tmp_path / "any.db"))
        await store.start()
        await store.delete(await store.list(""))
        await asyncio.gather(*(store.put(key, b"x") for key in keys))
        found = await store.list(prefix, after=after)
        await store.stop()
        assert found == listed(sorted(keys), prefix, after)

    asyncio.run(run())
