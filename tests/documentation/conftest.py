"""The tasks of the cases that pages have in tables."""

from __future__ import annotations

from tests.unit.conftest import world  # noqa: F401 # fixture
from tests.unit.operators.recovery.conftest import make_task  # noqa: F401 # fixture
