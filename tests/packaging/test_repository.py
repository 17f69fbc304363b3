"""The address of the repository, which several files have, and the forms for issues."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest
import yaml

from polysync_airflow.cli.output import make_parser as make_polysync_parser
from sagemaker_emulator.verify.command import make_parser as make_verify_parser

ROOT: Final = Path(__file__).parents[2]
FORMS: Final = ROOT / ".github" / "ISSUE_TEMPLATE"


def urls_of(folder: str) -> dict[str, str]:
    """Return the URLs of a distribution."""
    return dict(
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["urls"]
    )


PROVIDER: Final = urls_of(".")
SOURCE: Final = PROVIDER["Source"]
_, OWNER, NAME = SOURCE.rsplit("/", 2)
SITE: Final = f"https://{OWNER}.github.io/{NAME}/"


def test_distributions_have_the_same_addresses() -> None:
    """The emulator is a folder of the repository, with pages of its own."""
    common = {
        "Changelog": f"{SOURCE}/blob/main/CHANGELOG.md",
        "Issues": f"{SOURCE}/issues",
        "Source": SOURCE,
    }

    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w.-]+", SOURCE)
    assert {"Homepage": SOURCE, "Documentation": SITE, **common} == PROVIDER
    emulator = {
        "Homepage": f"{SOURCE}/tree/main/emulator",
        "Documentation": f"{SITE}how-to/emulator.html",
    }
    assert urls_of("emulator") == emulator | common


def test_site_and_forms_have_the_addresses_of_the_distributions() -> None:
    """They name the repository and its site, and no other one."""
    links = [
        link["url"]
        for link in yaml.safe_load((FORMS / "config.yml").read_text())["contact_links"]
    ]
    settings = (ROOT / "mkdocs.yml").read_text()

    assert links == [f"{SOURCE}/security/policy", SITE]
    assert f"\nsite_url: {SITE}\n" in settings
    assert f"\n      link: {SOURCE}\n" in settings


def test_contributing_lists_the_files_that_have_the_address() -> None:
    """Whoever gives the repository another address finds all of them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    texts = {
        name: (ROOT / name).read_text(errors="replace")
        for name in listed.stdout.split("\0")
        if name
    }
    having = {
        name
        for name, text in texts.items()
        if f"{OWNER}/{NAME}" in text or SITE in text
    }
    (line,) = re.findall(
        rf"^.*`{OWNER}/{NAME}`.*$", texts["CONTRIBUTING.md"], re.MULTILINE
    )

    assert having == {
        *re.findall(r"`([\w./]+\.(?:toml|yml))`", line),
        "CONTRIBUTING.md",
    }


@pytest.mark.parametrize("form", ["bug", "verify"])
def test_forms_are_complete(form: str) -> None:
    """
    The code host refuses a form without a name, a description or ids, and shows a blank
    page instead.
    """
    content = yaml.safe_load((FORMS / f"{form}.yml").read_text())
    ids = [part["id"] for part in content["body"] if part["type"] != "markdown"]

    assert {"name", "description", "labels", "body"} == content.keys()
    assert len(ids) == len(set(ids)) > 2


def test_commands_of_the_forms_exist() -> None:
    """What reporters are asked to run works."""
    bug, verify = ((FORMS / f"{name}.yml").read_text() for name in ("bug", "verify"))
    (options,) = re.findall(r"^ +polysync verify (.+)$", verify, re.MULTILINE)
    arn = "arn:aws:iam::123456789012:role/Name"

    assert "\n        polysync --version:\n" in bug
    with pytest.raises(SystemExit, match="0"):
        make_polysync_parser().parse_args(["--version"])
    parsed = make_verify_parser("polysync verify").parse_args(
        options.replace("ARN", arn).split()
    )
    assert str(parsed.report) == "report.json"
