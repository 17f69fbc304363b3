"""A fixture of other tests: a loopback account in which an execution has ended."""

from tests.unit.operators.outcome.conftest import aws  # noqa: F401
