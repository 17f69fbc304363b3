"""
The differences of values, and the axis of the chart, as the browser computes them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from polysync_airflow.ui.app import read_files

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.system

# The modules as one script, since the page of these tests has no server.
SCRIPT: Final = "\n".join(
    re.sub(
        r"^(import .*?;|export )",
        "",
        read_files()[name].decode(),
        flags=re.MULTILINE | re.DOTALL,
    )
    for name in ("format.js", "validation.js", "results.js", "chart.js")
)
NUMBERS: Final = [
    (0.91, 0.9, "+0.01 (+1.1 %)"),
    (0.9, 0.91, "-0.01 (-1.1 %)"),
    # Errors of rounding.
    (0.3, 0.1 + 0.2, "the same"),
    (0.9000001, 0.9, "the same"),
    (1234567, 1234500, "+67"),
    (2, 1, "+1 (+100 %)"),
    (-1, 1, "-2 (-200 %)"),
    (5, 0, "+5"),
    (0, 5, "-5 (-100 %)"),
    (1e300, -1e300, "+2e+300 (+200 %)"),
    (1, 1e-9, "+1"),
    (0.5, 0.5, "the same"),
    (None, 0.5, None),
    (0.5, None, None),
]
SECONDS: Final = [
    (1823, 1519, "+5 min 4 s (+20 %)"),
    (1519.4, 1519, "the same"),
    (0, 60, "-1 min (-100 %)"),
    (60, 0, "+1 min"),
    (None, 60, None),
]
TEXTS: Final = [
    (1234567, "1234567"),
    (-20000001, "-20000001"),
    (0.123456789, "0.123457"),
    (1234567.8, "1234570"),
    (1.5e30, "1.5e+30"),
]
# The values of a chart, the newest last.
SERIES: Final[list[list[float]]] = [
    [0.88, 0.9132],
    [0.5, 0.5],
    [0, 0],
    [-3, -3.00001],
    [1e300, -1e300],
    [1e-300, 5e-324],
    [1e300, 1e-300],
    [123456789, 123456790],
    [0.91234567, 0.91234568, 0.91234566],
    [-1000, 0.001, 1000],
]
DURATIONS: Final[list[list[float]]] = [
    [0, 0],
    [59.7, 61],
    [1823, 1519.5],
    [1e12, 0.3],
    [3e8, 2.9e8],
]


def evaluate(browser: Browser, function: str, argument: Any) -> Any:
    """Return what a JavaScript function returns in a page with the modules."""
    page = browser.new_page()
    page.add_script_tag(content=SCRIPT)
    found = page.evaluate(function, argument)
    page.close()
    return found


def test_differences(browser: Browser) -> None:
    """
    A difference has a sign and the share of the earlier value, unless that says
    nothing.
    """
    for function, table in (("compareNumbers", NUMBERS), ("compareSeconds", SECONDS)):
        found = evaluate(
            browser,
            f"rows => rows.map(([now, before]) => {function}(now, before))",
            table,
        )
        assert found == [text for _, _, text in table]


def test_numbers(browser: Browser) -> None:
    """An integer that JavaScript knows exactly is shown whole."""
    found = evaluate(
        browser,
        "numbers => numbers.map(number => formatNumber(number))",
        [n for n, _ in TEXTS],
    )
    assert found == [text for _, text in TEXTS]


def test_axis(browser: Browser) -> None:
    """All points are in the chart, and few ticks with different texts are, too."""
    for kind, series in (("number", SERIES), ("time", DURATIONS)):
        axes = evaluate(
            browser,
            f"""series => series.map(values => {{
                const scale = {kind}Scale(values.map(value => ({{ value }})));
                return [values.map(scale.position), scale.ticks.map(([value]) => scale.position(value)),
                    scale.ticks.map(([, text]) => text)];
            }})""",
            series,
        )
        for values, (places, ticks, texts) in zip(series, axes, strict=True):
            assert all(-1e-9 <= place <= 1 + 1e-9 for place in [*places, *ticks]), (
                values
            )
            assert 1 <= len(ticks) <= 7, values
            assert len(set(texts)) == len(texts), (values, texts)
            assert max(map(len, texts)) <= 16, texts
            if kind == "number" and set(values) == {0}:
                assert texts == ["-0.5", "-0.25", "0", "0.25", "0.5"]
            if kind == "number" and max(values) - min(values) > max(
                1e-290, 1e-6 * max(map(abs, values))
            ):
                assert max(places) - min(places) > 0.4, values
