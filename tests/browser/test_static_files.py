"""What the files of the tab compute in a browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.execution.test_durations import DURATIONS
from tests.unit.ui.test_static_files import SOURCES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.system
# The two modules as one script, since the page of this test has no server.
SCRIPT = "\n".join(
    re.sub(r"^(import .*?;|export )", "", SOURCES[name], flags=re.MULTILINE | re.DOTALL)
    for name in ("format.js", "validation.js", "results.js", "execution.js")
)
# JavaScript for an output of about 2 MB, which all 500 steps have.
OUTPUTS = {
    "wide": "Object.fromEntries(Array.from({length: 200_000}, (_, n) => [`key${n}`, n]))",
    "deep": "list(100, list(100, list(100, 1)))",
    "empty": "list(100, list(100, list(60, [])))",
    "nothing": "list(100, list(100, list(60, null)))",
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS)
def test_large_outputs_do_not_stop_the_browser(outputs: str, browser: Browser) -> None:
    """
    An XCom of 2 MB froze the tab for more than 18 seconds, when all of it was read and
    then cut.
    """
    page = browser.new_page()
    page.add_script_tag(content=SCRIPT)

    seconds, found = page.evaluate(
        f"""() => {{
            const list = (length, item) => Array.from({{ length }}, () => item);
            const outputs = {{ Train: JSON.parse(JSON.stringify({outputs})) }};
            const start = performance.now();
            const steps = readSteps(list(500, {{ name: "Train" }}), outputs, {{}});
            return [(performance.now() - start) / 1000, steps.map((step) => step.outputs)];
        }}"""
    )
    page.close()

    assert seconds < 3
    assert len(found) == 500
    assert all(len(each) <= 100 for each in found)
    if outputs == OUTPUTS["wide"]:
        assert found[0][:2] == [["key0", "0"], ["key1", "1"]]
    if outputs == OUTPUTS["deep"]:
        assert found[0][:2] == [["0.0.0", "1"], ["0.0.1", "1"]]


def test_nested_outputs_keep_their_order(browser: Browser) -> None:
    """Names are joined by dots; what is nested too deeply is an ellipsis."""
    page = browser.new_page()
    page.add_script_tag(content=SCRIPT)

    found = page.evaluate(
        """() => readSteps([{ name: "A" }], { A: { x: [1, { y: "two" }], z: true, d: [[[[[0]]]]] } }, {})[0].outputs"""
    )
    page.close()

    assert found == [["x.0", "1"], ["x.1.y", "two"], ["z", "true"], ["d.0.0.0", "…"]]


def test_durations_have_the_form_of_the_log(browser: Browser) -> None:
    """Whoever compares the tab with the log or the error finds the same text."""
    page = browser.new_page()
    page.add_script_tag(content=SOURCES["format.js"].replace("export ", ""))

    texts = page.evaluate(
        "seconds => seconds.map(formatSeconds)", [seconds for seconds, _ in DURATIONS]
    )
    page.close()

    assert texts == [text for _, text in DURATIONS]
