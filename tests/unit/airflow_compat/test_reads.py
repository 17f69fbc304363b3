"""What leaves Airflow's database, with a real one: only what is short."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import settings
from airflow.models.taskinstance import TaskInstance
from airflow.models.variable import Variable
from airflow.utils.session import create_session
from sqlalchemy import event, func, literal, select, text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import OperationalError

from polysync_airflow.airflow_compat import database, reads, xcoms
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.json_input import UNREADABLE
from tests.fakes.airflow_rows import add_variable
from tests.unit.ui.stored_tasks import remove_executions, store_execution

HAS_JSON = pytest.mark.skipif(
    not CAPABILITIES.task_sdk, reason="this Airflow has no JSON in XComs"
)
DIALECTS: dict[str, Any] = {"postgresql": postgresql, "mysql": mysql}
POSTGRESQL, MYSQL = (each.dialect() for each in DIALECTS.values())
MARIADB = DIALECTS["mysql"].dialect(is_mariadb=True)
LIMIT = reads.MAX_STORED_BYTES
PLANTED_BYTES = 30_000_000
TASK = {"dag_id": "churn_daily", "run_id": "one", "task_id": "train", "map_index": -1}
NEWEST: dict[str, Any] = {
    "dag_ids": ["churn_daily"],
    "dag": "",
    "operators": ["PolysyncStartPipelineOperator"],
    "since": None,
}


def newest(limit: int = 10) -> list[xcoms.XComBatch]:
    """Return the XComs ``run`` of the tests."""
    return list(xcoms.newest_xcoms("run", limit=limit, **NEWEST))


@pytest.fixture
def rows(airflow_database: None) -> Iterator[None]:
    """Delete what a test has stored."""
    yield
    with create_session() as session:
        session.query(Variable).delete()
    if CAPABILITIES.task_sdk:
        remove_executions()


def store(value: str) -> None:
    """Store a text of JSON as the XCom ``run`` of a task that has just started."""
    remove_executions()
    store_execution("one", {}, start_date=func.current_timestamp())
    with create_session() as session:
        session.execute(text("UPDATE xcom SET value = :value"), {"value": value})


def plant(table: str, column: str) -> None:
    """Replace a text by one of 30 MB, which this process never has."""
    planted = f"'\"' || hex(zeroblob({PLANTED_BYTES // 2})) || '\"'"
    with create_session() as session:
        session.execute(text(f"UPDATE {table} SET {column} = {planted}"))


def refusal_of(read: Callable[[], Any]) -> str:
    """Return why a Variable was not read."""
    with pytest.raises(StoredRecordError) as caught:
        read()
    return str(caught.value)


def value_in(*, lock: bool, **limit: int) -> str | None:
    """Return the value of the planted Variable."""
    with database.stored_variable("planted", lock=lock, **limit) as variable:
        assert variable.exists
        return variable.value


def value_of_other() -> str | None:
    """Return the value of the planted Variable, as another one's."""
    with database.stored_variable("none", lock=False) as variable:
        return variable.value_of("planted")


TOO_LARGE = "it has more than {:,} bytes, so it was not read"
VARIABLES: dict[str, tuple[Callable[[], Any], Any]] = {
    "one": (
        lambda: refusal_of(lambda: value_in(lock=False)),
        TOO_LARGE.format(LIMIT),
    ),
    "locked": (
        lambda: refusal_of(
            lambda: value_in(lock=True, max_bytes=reads.MAX_BYTES_ALONE)
        ),
        TOO_LARGE.format(reads.MAX_BYTES_ALONE),
    ),
    "all": (
        lambda: [
            refusal_of(lambda: each.value)  # noqa: B023
            for each in database.stored_variables("pl")
        ],
        [TOO_LARGE.format(reads.MAX_BYTES_ALONE)],
    ),
    "other": (value_of_other, None),
}
XCOMS: dict[str, tuple[Callable[[], Any], Any]] = {
    "one": (lambda: xcoms.read_xcom("run", **TASK), UNREADABLE),
    "all": (newest, [xcoms.XComBatch([], 1)]),
}


def assert_small(read: Callable[[], Any], expected: Any) -> None:
    """Assert what is read, and that it takes little memory."""
    read()
    tracemalloc.start()
    found = read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == expected
    assert peak < PLANTED_BYTES / 10


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("how", VARIABLES)
def test_large_variable_stays_in_the_database(how: str) -> None:
    """It is refused, or left out; the caller can tell it from one that is missing."""
    add_variable("planted", "short")
    plant("variable", "val")

    assert_small(*VARIABLES[how])


@HAS_JSON
@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": 1}, {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ("[SSL] no certificate", "[SSL] no certificate"),
        ("text", "text"),
    ],
)
def test_xcom_of_a_text(value: Any, found: Any) -> None:
    """Airflow may have stored a dict as its text; other texts stay what they are."""
    store(json.dumps(value))
    assert xcoms.read_xcom("run", **TASK) == found


@HAS_JSON
@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("how", XCOMS)
def test_large_xcom_stays_in_the_database(how: str) -> None:
    """It is unreadable, or counted."""
    store("{}")
    plant("xcom", "value")

    assert_small(*XCOMS[how])


@HAS_JSON
@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("letter", ["a", "\N{EURO SIGN}"])
def test_limit_of_an_xcom_counts_bytes(letter: str) -> None:
    """The text of the JSON counts. No XCom is lost on the way."""
    longest = f'"{letter * ((LIMIT - 2) // len(letter.encode()))}"'
    longest += " " * (LIMIT - len(longest.encode()))

    store(longest)
    assert newest() == [xcoms.XComBatch([longest], 0)]
    store(longest + " ")
    assert newest() == [xcoms.XComBatch([], 1)]
    assert xcoms.read_xcom("run", **TASK) == json.loads(longest)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("size", [0, LIMIT - 1, LIMIT])
def test_longest_variable_is_read_although_it_is_encrypted(size: int) -> None:
    """The limit is that of what was encrypted."""
    add_variable("planted", "x" * size)

    for lock in (False, True):
        assert value_in(lock=lock) == "x" * size
    assert [each.value for each in database.stored_variables("pl")] == ["x" * size]


@pytest.mark.usefixtures("rows")
def test_large_record_is_read_by_commands_alone() -> None:
    """An execution with very long parameters must not get out of sight."""
    add_variable("planted", "x" * 2 * LIMIT)
    add_variable("planter", "short")

    found = [each.value for each in database.stored_variables("pl")]

    assert found == ["x" * 2 * LIMIT, "short"]
    assert "was not read" in refusal_of(lambda: value_in(lock=False))


@HAS_JSON
@pytest.mark.usefixtures("rows")
def test_many_xcoms_of_the_longest_size_are_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that started last come first; the rest counts as left out."""
    monkeypatch.setattr(xcoms, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(xcoms, "_MAX_BYTES_OF_ALL", 1)
    for number in range(5):
        store_execution(f"r{number}", {"n": number}, start_date=func.date(number))

    first, rest = newest(limit=4)

    assert sorted(map(json.loads, first.texts)) == ['{"n": 3}', '{"n": 4}']
    assert rest == xcoms.XComBatch((), 2)


@HAS_JSON
@pytest.mark.usefixtures("rows")
def test_no_connection_is_held_while_python_works() -> None:
    """Others need it."""
    connections: list[int] = []
    event.listen(settings.engine, "checkout", lambda *_: connections.append(1))
    event.listen(settings.engine, "checkin", lambda *_: connections.append(-1))
    store("{}")
    add_variable("planted", "short")

    for _ in xcoms.newest_xcoms("run", limit=2, **NEWEST):
        assert sum(connections) == 0
    for _ in database.stored_variables("pl"):
        assert sum(connections) == 0
    with database.stored_variable("planted", lock=False) as variable:
        assert variable.dag_run("none", "none") == (None, None)
        assert sum(connections) == 0
    assert 1 in connections


# Other tests on Airflow 2 replace ``reads.rows``.
@pytest.mark.usefixtures("airflow_database")
@pytest.mark.parametrize(
    "query", [select(Variable), select(Variable.description), select(TaskInstance)]
)
def test_query_of_unlimited_texts_is_refused(query: Any) -> None:
    """So nobody reads them by mistake."""
    with pytest.raises(TypeError, match="may have any size"):
        reads.rows(query)


# ---- time


def long_query() -> Any:
    """Return a query of some millions of instructions."""
    numbers = select(literal(1).label("n")).cte(recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < 1_000_000))
    return select(func.max(numbers.c.n))


@pytest.mark.usefixtures("airflow_database")
def test_statement_ends_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In SQLite. The next statement of the same connection has its own time."""
    monkeypatch.setattr(reads, "MAX_SECONDS", -1)
    with create_session() as session:
        with pytest.raises(OperationalError, match="interrupted"):
            reads.rows(long_query(), session)
        many = "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n + 1 FROM r LIMIT 9999)"
        assert session.execute(text(f"{many} SELECT max(n) FROM r")).scalar() == 9999


COLUMN = "dag_id FROM task_instance"


@pytest.mark.usefixtures("airflow_database")
@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (
            POSTGRESQL,
            ["SET LOCAL statement_timeout = 10000", f"SELECT {COLUMN}"],
        ),
        (MYSQL, [f"SELECT /*+ MAX_EXECUTION_TIME(10000) */ {COLUMN}"]),
    ],
    ids=["postgresql", "mysql"],
)
def test_servers_get_a_time_limit(
    dialect: Any, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with the transaction, or with the statement: connections are shared."""
    sent: list[str] = []

    class Session:
        def __enter__(self) -> Session:
            return self

        def __exit__(self, *_: object) -> None:
            sent.append("end")

        def get_bind(self) -> Any:
            return SimpleNamespace(dialect=dialect)

        def execute(self, query: Any) -> Any:
            statement = str(query.compile(dialect=dialect))
            sent.append(" ".join(statement.replace("task_instance.", "").split()))
            return SimpleNamespace(all=list)

    monkeypatch.setattr("airflow.utils.session.create_session", Session)

    reads.rows(select(TaskInstance.dag_id))

    assert sent == [*expected, "end"]


# ---- the other databases


@HAS_JSON
@pytest.mark.parametrize(
    ("dialect", "of_json", "of_text"),
    [
        (
            POSTGRESQL,
            "CASE WHEN pg_column_size(xcom.value) <= 9"
            " THEN octet_length(CAST(xcom.value AS TEXT)) END <= 9",
            "octet_length(variable.val) <= 9",
        ),
        (
            MYSQL,
            "CASE WHEN JSON_STORAGE_SIZE(xcom.value) <= 9"
            " THEN octet_length(CAST(xcom.value AS CHAR)) END <= 9",
            "octet_length(variable.val) <= 9",
        ),
        (MARIADB, "octet_length(xcom.value) <= 9", "octet_length(variable.val) <= 9"),
    ],
    ids=["postgresql", "mysql", "mariadb"],
)
def test_limit_in_other_databases(dialect: Any, of_json: str, of_text: str) -> None:
    """
    The size of what the database has stored sorts out the large ones: it makes no text
    of them.
    """

    def sql(column: Any) -> str:
        options = {"literal_binds": True}
        return str(
            reads.fits(column, 9).compile(dialect=dialect, compile_kwargs=options)
        )

    assert of_json in sql(xcoms.MODEL.value)
    assert of_text in sql(Variable._val)
