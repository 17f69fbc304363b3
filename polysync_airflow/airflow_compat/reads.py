"""
The only place that reads Airflow's database.

Users may store texts of any size there, as XComs, Variables and connections, and these
are read in a process that others share. So a text leaves the database only if it is
short: the query itself compares its size with a limit. What is too large is counted or
reported by the caller.

A statement ends after ``MAX_SECONDS``, except in the transaction of somebody else: a
time limit there would outlast the statement.

Tasks, triggers and callbacks of Airflow 3 ask its API server in place of the database
(``task_instances``), which has no such limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Integer, Text, bindparam, case, cast, or_, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import JSON, LargeBinary, PickleType, String, TypeDecorator

from polysync_airflow.execution import clock, json_input

# Of an XCom or a Variable. Those of this provider are shorter, except for records and
# summaries of executions with very long parameters.
MAX_STORED_BYTES: Final = 64 * 1024
# Of one that a command reads alone: it must not lose sight of such an execution.
MAX_BYTES_ALONE: Final = json_input.MAX_BYTES
MAX_SECONDS: Final = 10
SHORT: Final = "short"
# Version, time, initialization vector, padding and HMAC.
_MAX_BYTES_OF_FERNET: Final = 1 + 8 + 16 + 16 + 32
# How many instructions SQLite runs before it asks whether to go on.
_INSTRUCTIONS: Final = 10_000


# ---- sizes


class _Bytes(FunctionElement[int]):
    """
    How many bytes the text of a column has; NULL if these are certainly more than a
    limit.
    """

    name = "stored_bytes"
    type = Integer()
    inherit_cache = True

    def __init__(self, column: Any, max_bytes: int) -> None:
        super().__init__(column, bindparam("max_bytes", max_bytes, unique=True))


def _column(element: Any, compiler: Any, **options: Any) -> tuple[str, str]:
    """Return the column, and its type."""
    column, _ = element.clauses
    ddl = column.type.compile(dialect=compiler.dialect)
    return compiler.process(column, **options), ddl.split("(")[0]


def _limit(element: Any, compiler: Any, **options: Any) -> str:
    """
    Return the limit. Only if the statement has it: SQLAlchemy 1.4 counts what is
    compiled.
    """
    _, limit = element.clauses
    text_of_limit: str = compiler.process(limit, **options)
    return text_of_limit


@compiles(_Bytes)
def _bytes_in_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    column, _ = _column(element, compiler, **options)
    return f"length(CAST({column} AS BLOB))"


@compiles(_Bytes, "postgresql")
def _bytes_in_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    """
    ``octet_length`` of ``text`` and ``bytea`` reads the size that is stored beside the
    value (``textoctetlen`` in PostgreSQL's varlena.c). That of JSON makes its text
    first, from the whole value. So ``pg_column_size``, which reads no value, sorts out
    the large ones: it is the size of the value as it is stored, often compressed.
    """
    column, ddl = _column(element, compiler, **options)
    if ddl not in ("JSON", "JSONB"):
        return f"octet_length({column})"
    limit = _limit(element, compiler, **options)
    return (
        f"CASE WHEN pg_column_size({column}) <= {limit}"
        f" THEN octet_length(CAST({column} AS TEXT)) END"
    )


@compiles(_Bytes, "mysql", "mariadb")
def _bytes_in_mysql(element: Any, compiler: Any, **options: Any) -> str:
    """
    As in PostgreSQL. MariaDB stores JSON as text, and has no function for the size of
    anything else.
    """
    column, ddl = _column(element, compiler, **options)
    if ddl != "JSON" or compiler.dialect.is_mariadb:
        return f"octet_length({column})"
    limit = _limit(element, compiler, **options)
    return (
        f"CASE WHEN JSON_STORAGE_SIZE({column}) <= {limit}"
        f" THEN octet_length(CAST({column} AS CHAR)) END"
    )


def fits(column: Any, max_bytes: int = MAX_STORED_BYTES) -> Any:
    """
    Return the condition that a column has no value, or one whose text has at most so
    many bytes.
    """
    return or_(column.is_(None), _Bytes(column, max_bytes) <= max_bytes)


def short(column: Any, max_bytes: int = MAX_STORED_BYTES) -> tuple[Any, Any]:
    """
    Return two columns of a query in place of one: ``short``, the text or the bytes of a
    column, NULL if it is longer than the limit, and ``stored``, whether it has a value.
    So the database makes the text only once to find its size.
    """
    content = column
    if isinstance(column.type, JSON):
        # The driver would make an object of JSON while the connection is held.
        content = cast(column, Text)
    return (
        case((fits(column, max_bytes), content)).label(SHORT),
        case((column.is_(None), 0), else_=1).label("stored"),
    )


def encrypted(max_bytes: int) -> int:
    """
    Return how many bytes a text has at most once Airflow has encrypted it.

    Fernet adds at most 73 bytes, and writes base64.
    https://github.com/fernet/spec/blob/master/Spec.md
    """
    return 4 * math.ceil((max_bytes + _MAX_BYTES_OF_FERNET) / 3)


def _has_no_limit(kind: Any) -> bool:
    """Return whether a type of columns has values of any size."""
    if isinstance(kind, TypeDecorator):
        kind = kind.impl
    if isinstance(kind, String):
        return kind.length is None
    return isinstance(kind, (JSON, LargeBinary, PickleType))


# ---- statements


@contextmanager
def transaction() -> Iterator[Any]:
    """Yield a session with a transaction of its own."""
    from airflow.utils.session import create_session

    with create_session() as session:
        if session.get_bind().dialect.name == "postgresql":
            milliseconds = MAX_SECONDS * 1000
            # Until the end of the transaction only: the connection is used again.
            session.execute(text(f"SET LOCAL statement_timeout = {milliseconds}"))
        yield session


def rows(query: Any, session: Any = None) -> list[Any]:
    """
    Return the rows of a query, whose columns all have limits.

    :param session: that of the transaction to use. None for a transaction of its own,
        which is over when this function returns: no connection is held while the
        caller works.
    :raises TypeError: a column may have a text of any size.
    """
    for column in query.selected_columns:
        if getattr(column, "name", None) != SHORT and _has_no_limit(column.type):
            raise TypeError(f"{column} may have any size. See reads.short")
    return _all(query, session)


def value(query: Any, session: Any = None) -> Any:
    """Return the first column of the first row; None if there is none. As ``rows``."""
    for row in rows(query.limit(1), session):
        return row[0]
    return None


def entities(
    query: Any, session: Any = None, *, max_bytes: int = MAX_STORED_BYTES
) -> list[Any]:
    """
    Return the rows of one table, without those that have a longer text than a limit.

    :param query: ``select`` of the model alone.
    :param session: as above.
    """
    (model,) = (description["entity"] for description in query.column_descriptions)
    texts = [
        fits(column, max_bytes)
        for column in model.__table__.columns
        if _has_no_limit(column.type)
    ]
    return [row for (row,) in _all(query.where(*texts), session)]


def _all(query: Any, session: Any) -> list[Any]:
    if session is None:
        with transaction() as own:
            return _all(query, own)
    # MariaDB ignores it. Airflow does not support that.
    hint = f"/*+ MAX_EXECUTION_TIME({MAX_SECONDS * 1000}) */"
    limited = query.prefix_with(hint, dialect="mysql")
    if session.get_bind().dialect.name != "sqlite":
        found: list[Any] = session.execute(limited).all()
        return found
    # SQLite has no time limit of its own.
    driver = session.connection().connection.dbapi_connection
    until = clock.monotonic() + MAX_SECONDS
    driver.set_progress_handler(lambda: clock.monotonic() > until, _INSTRUCTIONS)
    try:
        return list(session.execute(limited))
    finally:
        driver.set_progress_handler(None, _INSTRUCTIONS)
