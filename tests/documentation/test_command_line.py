"""The pages about the command line, compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from polysync_airflow.jobs.catalogue import CatalogueJob
from polysync_airflow.jobs.drift import KINDS
from tests.unit.cli.commands import PARSERS

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference" / "cli.md").read_text()
HOW_TO = (DOCS / "how-to" / "import-jobs.md").read_text()


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """
    Return the rows of the first table under a heading, by the text of their first cell.
    """
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\| `([^|]+)` \| (.*)\|$", section, re.MULTILINE)
    return {first: [cell.strip() for cell in rest.split("|")] for first, rest in lines}


def test_every_kind_of_drift_is_documented() -> None:
    """The table has each kind of difference, and no others."""
    assert set(rows(HOW_TO, "Which changes are found?")) == set(KINDS)


def test_example_of_a_catalogue_is_one() -> None:
    """The example in the page can be read, and has the keys of the table."""
    text = (
        HOW_TO.split("## What does the file contain?", 1)[1]
        .split("```yaml\n", 1)[1]
        .split("```", 1)[0]
    )
    (job,) = yaml.safe_load(text)["jobs"]

    assert CatalogueJob.model_validate(job).name == "abalone"
    keys = re.findall(
        r"^\| (`.*?) \|", HOW_TO.split("## Which parts", 1)[0], re.MULTILINE
    )
    assert set(re.findall(r"`(\w+)`", " ".join(keys))) == set(CatalogueJob.model_fields)


@pytest.mark.parametrize("page", ["reference/cli.md", "how-to/import-jobs.md"])
def test_links_lead_to_headings(page: str) -> None:
    """Each link in the pages leads to a page and a heading that exist."""
    text = (DOCS / page).read_text()
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", text)

    assert links
    for file, anchor in links:
        target = ((DOCS / page).parent / file).read_text() if file else text
        headings = re.findall(r"^#+ (.*)$", target, re.MULTILINE)
        anchors = {
            re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
            for heading in headings
        }
        assert not anchor or anchor in anchors


def test_commands_in_code_blocks_are_valid() -> None:
    """Each ``polysync`` command of the pages can be parsed."""
    blocks = "\n".join(
        re.findall(r"```(?:console|yaml)\n(.*?)```", REFERENCE + HOW_TO, re.DOTALL)
    )
    lines = re.findall(r"^[ -]*(polysync .*)$", blocks, re.MULTILINE)

    assert len(lines) > 10
    for line in lines:
        words = line.split(" > ")[0].split()[1:]
        if words[0] in ("--help", "--version"):
            continue
        name = f"polysync {words[0]}"
        PARSERS[name].parse_args(words[1:]) if name in PARSERS else PARSERS[
            "polysync"
        ].parse_args(words)
