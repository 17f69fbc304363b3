"""
Writes the tables of emulator/docs/what-is-verified.md from the beliefs, and the states
from a report.

``python -m tests.documentation.verified [REPORT]``
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sagemaker_emulator.verify.models import BELIEFS, SUBJECTS, Verdict

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "emulator" / "docs" / "what-is-verified.md"
BELIEVED: Final = "believed"
# What a report can say of a belief.
_VERIFIED: Final = "verified on {day} in {region}"
_DIFFERS: Final = "differs on {day} in {region}: {seen}"
_ROW: Final = re.compile(r"^\| `([a-z]+\.[a-z-]+)` \|.*\| ([^|]+) \|$", re.MULTILINE)
_BEGIN: Final = "## Which beliefs are there?\n"


def states(text: str) -> dict[str, str]:
    """Return the state of each belief on the page."""
    return dict(_ROW.findall(text))


def with_tables(text: str, known: Mapping[str, str]) -> str:
    """Return the page with the tables of the beliefs, which are its last section."""
    begin = text.split(_BEGIN, maxsplit=1)[0]
    return "\n".join([begin + _BEGIN, *_tables(known)]) + "\n"


def _tables(known: Mapping[str, str]) -> Iterator[str]:
    checked = sum(known.get(belief.id, BELIEVED) != BELIEVED for belief in BELIEFS)
    yield f"There are {len(BELIEFS)}. {checked or 'None'} of them {'was' if checked < 2 else 'were'} checked on AWS.\n"
    for number, (subject, title) in enumerate(SUBJECTS.items()):
        if number:
            yield ""
        yield f"### {title}\n\n| Check | Belief | Expected | State |\n|---|---|---|---|"
        for belief in BELIEFS:
            if belief.subject == subject:
                state = known.get(belief.id, BELIEVED)
                sentence = belief.sentence
                if belief.source:
                    sentence += f" [Source]({belief.source})"
                yield f"| `{belief.id}` | {sentence} | {belief.expected} | {state} |"


def updated(before: Mapping[str, str], report: Mapping[str, Any]) -> dict[str, str]:
    """Return the states after a report."""
    if report["endpoint"] != "AWS":
        raise SystemExit("This is not a report about AWS.")
    where = {"day": report["at"][:10], "region": report["region"]}
    after = dict(before)
    for check in report["checks"]:
        if check["verdict"] == Verdict.AS_BELIEVED:
            after[check["id"]] = _VERIFIED.format(**where)
        elif check["verdict"] == Verdict.DIFFERS:
            seen = " ".join(check["seen"].replace("|", " ").split())
            after[check["id"]] = _DIFFERS.format(**where, seen=seen)
    return after


def main() -> None:
    """Write the page."""
    text = PAGE.read_text()
    known = states(text)
    if len(sys.argv) > 1:
        known = updated(known, json.loads(Path(sys.argv[1]).read_text()))
    PAGE.write_text(with_tables(text, known))


if __name__ == "__main__":
    main()
