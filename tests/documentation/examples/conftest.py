"""The fixtures that run an example DAG."""

from __future__ import annotations

from tests.documentation.examples.test_example_dags import database, endpoint, example

__all__ = ["database", "endpoint", "example"]
