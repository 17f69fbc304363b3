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
_ROW: Final = re.compile(
    r"^\| `([a-z]+\.[a-z-]+)` \|(?: [^|]+ \|){3} ([^|]+) \|$", re.MULTILINE
)
_BEGIN: Final = "## Which beliefs are there?\n"
_IF_FALSE: Final = """\
## What happens if AWS does something else?

Each unconfirmed belief is here, with some others. No money depends on them: [tests](../../tests/unit/operators/recovery/test_opposite_beliefs.py) let the emulator do something else, on a worker and deferred.
"""


def states(text: str) -> dict[str, str]:
    """Return the state of each belief on the page."""
    return dict(_ROW.findall(text))


def with_tables(text: str, known: Mapping[str, str]) -> str:
    """Return the page with the tables of the beliefs, which are its last section."""
    begin = text.split(_BEGIN, maxsplit=1)[0]
    return "\n".join([begin + _BEGIN, *_tables(known)]) + "\n"


def _tables(known: Mapping[str, str]) -> Iterator[str]:
    checked = sum(known.get(belief.id, BELIEVED) != BELIEVED for belief in BELIEFS)
    unconfirmed = [f"`{belief.id}`" for belief in BELIEFS if not belief.source]
    yield (
        f"There are {len(BELIEFS)}. {checked or 'None'} of them"
        f" {'was' if checked < 2 else 'were'} checked on AWS."
        f" {len(BELIEFS) - len(unconfirmed)} have a source, and {len(unconfirmed)} are"
        f" unconfirmed: {', '.join(unconfirmed)}.\n"
    )
    for number, (subject, title) in enumerate(SUBJECTS.items()):
        if number:
            yield ""
        yield (
            f"### {title}\n\n| Check | Belief | Source | Expected | State |\n"
            "|---|---|---|---|---|"
        )
        for belief in BELIEFS:
            if belief.subject == subject:
                state = known.get(belief.id, BELIEVED)
                source = "unconfirmed"
                if belief.source:
                    source = f"[{_kind_of(belief.source)}]({belief.source})"
                yield (
                    f"| `{belief.id}` | {belief.sentence} | {source} |"
                    f" {belief.expected} | {state} |"
                )
    yield f"\n{_IF_FALSE}\n| Check | If it is not true |\n|---|---|"
    for belief in BELIEFS:
        if belief.if_false:
            yield f"| `{belief.id}` | {belief.if_false} |"


def _kind_of(source: str) -> str:
    """Return what kind of source an address is."""
    if "github.com/" not in source:
        return "AWS"
    if "/blob/" in source:
        return "code"
    return "report"


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
