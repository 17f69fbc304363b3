"""
Captures the log lines of operators and triggers: Airflow 3 uses structlog for them,
Airflow 2 the standard library.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """
    Yield the list of the lines that are logged, as ``structlog.testing.capture_logs``
    does.
    """
    if CAPABILITIES.task_sdk:
        from structlog.testing import capture_logs as capture

        with capture() as lines:
            yield cast("list[dict[str, Any]]", lines)
        return
    handler = _Handler()
    loggers = [logging.getLogger(name) for name in ("airflow.task", "polysync_airflow")]
    loggers += [logging.getLogger(name) for name in _existing_names()]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def texts_of(lines: list[dict[str, Any]], level: str = "") -> list[str]:
    """Return the texts of captured lines, of one level if it is given."""
    return [
        line["event"] % line.get("positional_args", ())
        for line in lines
        if level in ("", line["log_level"]) and isinstance(line["event"], str)
    ]


def _existing_names() -> list[str]:
    # Airflow 2 lets no logger of a task pass its lines on to its parents.
    return [
        name
        for name in logging.Logger.manager.loggerDict
        if name.startswith(("airflow.task.", "polysync_airflow."))
    ]


class _Handler(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line once, even if it also reaches the handler of a parent."""
        if not any(record is known for known in self._records):
            self._records.append(record)
            self.lines.append(
                {"event": record.getMessage(), "log_level": record.levelname.lower()}
            )
