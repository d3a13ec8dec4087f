"""Where BI tools connect to: the database's address, and nothing secret."""

import httpx
import pytest

from service.exports.bi_http import find_address
from service.store.database import Database


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://me:secret@db.example:6000/outcomes?sslmode=require", ("db.example", "6000", "require")),
        ("postgresql://me:p%40x@one:5433,two:5434/outcomes", ("one", "5433", None)),
        ("postgresql://me@[::1]:5433/outcomes", ("::1", "5433", None)),
        ("postgresql:///outcomes?host=/run/postgres", ("/run/postgres", "5432", None)),
        ("postgresql://db/outcomes", ("db", "5432", None)),
    ],
)
def test_the_address_is_the_first_host_without_user_and_password(url: str, address: tuple[str, ...]) -> None:
    assert find_address(url) == address


async def test_the_answer_names_the_database_and_the_roles(service: httpx.AsyncClient, database: Database) -> None:
    access = (await service.get("/v1/bi")).json()["data"]
    assert access["database"] == await database.pool.fetchval("SELECT current_database()")
    assert [(role["name"], role["schema"]) for role in access["roles"]] == [
        ("bi_reader", "bi"),
        ("bi_reader_full", "bi_full"),
    ]
