"""
The recipes of CONTRIBUTING are followed in a copy of the package, in which tasks then
use what they have added.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.documentation.recipes import RECIPES
from tests.pages import ROOT, Page

pytestmark = pytest.mark.documentation

# What AWS would add to its service model: botocore reads such a file in the home
# directory.
NEW_MEMBER: Final = {
    "merge": {
        "shapes": {
            "StartPipelineExecutionRequest": {
                "members": {"FleetName": {"shape": "PipelineName"}}
            }
        }
    }
}
TASKS: Final = '''
"""The tasks of the copy."""

import json
from io import BytesIO

import polysync_airflow
import pytest
from botocore.awsrequest import AWSResponse
from botocore.httpsession import URLLib3Session
from polysync_airflow import sensors
from polysync_airflow.auth.iam_policies import identity_policy
from polysync_airflow.hooks.executions import NEWEST_MEMBERS
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.conftest import IN_BOTH_MODES
from tests.tasks import run_task
from tests.unit.sensors.sessions import airflow_time
from tests.world import START


class Raw(BytesIO):
    """A body, as botocore reads it."""

    def stream(self, **_):
        yield self.read()


def test_package_is_the_copy():
    assert polysync_airflow.__file__.startswith(FOLDER)


@IN_BOTH_MODES
def test_argument_and_field(emulator, emulated_time, deferrable):
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", fleet_name="blue", deferrable=deferrable
    )

    run = run_task(operator)

    assert run.error is None
    assert emulator.control.calls(START)[-1]["request"]["FleetName"] == "blue"
    assert "fleet_name" in operator.template_fields
    assert NEWEST_MEMBERS["FleetName"] == "fleet_name"
    assert run.xcoms["run"]["version_id"] == 1


@IN_BOTH_MODES
def test_sensor(emulator, airflow_time, deferrable, monkeypatch):
    statuses = ["Creating", "Creating", "Created"]
    send = URLLib3Session.send

    def answer(session, request):
        if not str(request.headers["X-Amz-Target"]).count("DescribeFeatureGroup"):
            return send(session, request)
        body = json.dumps({"FeatureGroupStatus": statuses.pop(0)}).encode()
        return AWSResponse(request.url, 200, {}, Raw(body))

    monkeypatch.setattr(URLLib3Session, "send", answer)
    sensor = sensors.PolysyncFeatureGroupSensor(
        task_id="wait", feature_group="clicks", deferrable=deferrable
    )

    run = run_task(sensor)

    assert (run.result, run.error, statuses) == ("clicks", None, [])
    assert "sagemaker:DescribeFeatureGroup" in json.dumps(identity_policy())
'''


@pytest.mark.parametrize("heading", RECIPES)
def test_recipe_names_its_files(heading: str) -> None:
    """The recipe has the files in the order of its example, and few of them."""
    edits, max_files = RECIPES[heading]
    files = list(dict.fromkeys(edit.file for edit in edits))
    section = Page(ROOT / "CONTRIBUTING.md").section(heading)
    points = re.findall(r"^\d+\. `([\w/*]+\.py)`", section, re.MULTILINE)

    assert len(files) <= max_files
    assert len(points) == len(files)
    for point, file in zip(points, files, strict=True):
        assert re.fullmatch(point.replace("*", "[a-z_]+"), file)


def test_tasks_run_as_the_recipes_say(tmp_path: Path) -> None:
    """In both modes, with all three recipes in one copy."""
    package = tmp_path / "polysync_airflow"
    shutil.copytree(ROOT / package.name, package)
    for edits, _ in RECIPES.values():
        for edit in edits:
            edit.apply(package)
    model = tmp_path / ".aws/models/sagemaker/2017-07-24/service-2.sdk-extras.json"
    model.parent.mkdir(parents=True)
    model.write_text(json.dumps(NEW_MEMBER))
    tasks = tmp_path / "test_tasks.py"
    tasks.write_text(TASKS.replace("FOLDER", repr(str(tmp_path))))
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {"PYTHONPATH": path, "HOME": str(tmp_path)}
    program = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull]
    plugins = ["-p", "tests.conftest", "-p", "no:cacheprovider"]

    ended = subprocess.run(
        [*program, *plugins, f"--rootdir={tmp_path}", tasks],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )

    assert re.search(r"^5 passed", ended.stdout, re.MULTILINE), ended.stdout
