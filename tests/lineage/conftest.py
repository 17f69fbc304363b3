"""
Fixtures of other tests: a loopback account in which an execution has ended, and Airflow
with an emulator.
"""

from tests.operators.outcome.conftest import aws  # noqa: F401
from tests.test_example_dags import database, endpoint, example  # noqa: F401
