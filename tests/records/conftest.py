"""The fixtures that run an example DAG."""

from __future__ import annotations

from tests.test_example_dags import database, endpoint, example

__all__ = ["database", "endpoint", "example"]
