"""Fixtures of other tests: Airflow with an emulator."""

from tests.documentation.examples.test_example_dags import database, endpoint, example  # noqa: F401
