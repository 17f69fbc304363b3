"""The fixtures of what runs in these processes."""

from __future__ import annotations

from tests.processes.projects import project  # noqa: F401 # fixture
from tests.unit.cli.conftest import polysync  # noqa: F401 # fixture
from tests.unit.conftest import world  # noqa: F401 # fixture
from tests.unit.operators.recovery.kills.test_kill_in_imports import run_try  # noqa: F401 # fixture
