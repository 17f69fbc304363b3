"""Fixtures of other tests: Airflow with an emulator, and tasks of several tries."""

from tests.documentation.examples.test_example_dags import database, endpoint, example  # noqa: F401
from tests.unit.conftest import world  # noqa: F401
from tests.unit.operators.recovery.conftest import make_task  # noqa: F401
