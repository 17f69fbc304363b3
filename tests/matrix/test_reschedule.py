"""
A retry policy reschedules a task, plain or mapped: Airflow itself runs it again, in the
same try.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.testing.emulator import SageMakerEmulator
from tests.fakes.dag_bundle import use_bundle
from tests.world import deny

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.nightly,
    pytest.mark.skipif(
        not CAPABILITIES.reschedules, reason="a retry_policy of Airflow 3.4 reschedules"
    ),
]
DAGS = Path(__file__).parent / "policy_dags"


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("mode", ["deferred", "worker"])
def test_rescheduled_try_has_one_execution(
    mode: str,
    retries: int,
    example: Any,
    endpoint: SageMakerEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow does what the policy has said when it was asked the only time."""
    use_bundle(DAGS, monkeypatch)
    asked = tmp_path / "asked"
    monkeypatch.setenv("ASKED", str(asked))
    deny(endpoint, "DescribePipelineExecution", count=1)

    run = example(f"rescheduled_{mode}_{retries}", DAGS, "with_reschedule.py")

    (ti,) = run.get_task_instances()
    assert (ti.state, ti.try_number) == ("success", 1)
    assert asked.read_text().split() == ["SageMakerApiError"]
    assert len(endpoint.starts()) == 1
