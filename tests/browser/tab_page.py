"""What a person can see and do in the tab, and on the page with all executions."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from polysync_airflow.ui.plugin import URL_PREFIX
from tests.browser.airflow_site import Task

if TYPE_CHECKING:
    from playwright.sync_api import Error, Locator, Page, Route

# Returns the contrast of each text with what is behind it, as WCAG 2 defines it. The
# canvas converts all notations of colours into numbers.
_CONTRASTS: Final = """elements => elements.map(element => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const paint = colors => {
    context.clearRect(0, 0, 1, 1);
    for (const color of colors) { context.fillStyle = color; context.fillRect(0, 0, 1, 1); }
    return context.getImageData(0, 0, 1, 1).data;
  };
  const behind = [];
  for (let each = element; each; each = each.parentElement) {
    behind.unshift(getComputedStyle(each).backgroundColor);
  }
  const luminance = ([red, green, blue]) => [red, green, blue]
    .map(part => part / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const text = luminance(paint([...behind, getComputedStyle(element).color]));
  const ground = luminance(paint(behind));
  return [element.innerText, (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05)];
})"""


EXECUTIONS: Final = "plugin/sagemaker-executions"
# A path that Airflow's UI has no page for.
NO_PAGE: Final = "no-such-page"


class TabPage:
    """
    A page of Airflow's UI with the tab, or the one with all executions.

    :param page: the page of the browser.
    :param url: the base URL of Airflow.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        # What the tab has asked for in vain: browsers show it as errors.
        self.not_found: list[str] = []
        self.script_errors: list[str] = []
        self.api_requests: list[str] = []
        self.console_errors: list[str] = []
        self._url = url
        page.on("pageerror", self._record_error)
        page.on(
            "dialog",
            lambda dialog: self.script_errors.append(f"dialog: {dialog.message}"),
        )
        page.on("console", lambda entry: self._record_console(entry.type, entry.text))
        page.on("request", lambda request: self._record(request.url))
        page.on(
            "response",
            lambda response: self._record_response(response.status, response.url),
        )

    def _record_error(self, error: Error) -> None:
        stack = error.stack or str(error)
        # Airflow 3.2 reads the states of tasks as a stream, and leaves the error
        # unhandled when it ends the stream. Its forms load an editor from another host,
        # and leave the event unhandled when they cannot.
        is_of_airflow = error.name == "AbortError" or str(error) == "Event"
        if URL_PREFIX in stack or not is_of_airflow:
            self.script_errors.append(stack)

    def _record_console(self, kind: str, text: str) -> None:
        if kind == "error":
            self.console_errors.append(text)

    @property
    def tab(self) -> Locator:
        """The content of the tab."""
        return self.page.locator(".psm")

    def sign_in(self, name: str, password: str) -> None:
        """Open Airflow, and sign in."""
        self.page.goto(self._url)
        self.page.get_by_label("Username").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self._url}**")
        self.page.get_by_role("link", name="Home").first.wait_for()

    def open(self, task: Task) -> None:
        """
        Open the page of a task instance, and click the tab.

        Airflow's UI is loaded once: that takes several times as long as a change to
        another of its pages.
        """
        if self.page.url.startswith(self._url):
            # What ``hide`` has set.
            self.page.evaluate("delete document.hidden")
            self._go(NO_PAGE)
            self.tab.wait_for(state="detached")
            self._go(task.page)
        else:
            self.page.goto(f"{self._url}{task.page}")
        from playwright.sync_api import TimeoutError as PageTimeout

        try:
            self._click_tab()
        except PageTimeout:
            # Beside all other suites of CI, Airflow's page has stayed without the tab's
            # content. The cause is not known.
            self.load_again()

    def open_executions(self, query: str = "") -> None:
        """
        Open the page with all executions.

        :param query: the query string of its address, such as ``?state=Failed``.
        """
        if self.page.url.startswith(self._url):
            self.page.evaluate("delete document.hidden")
            self._go(NO_PAGE)
            self.tab.wait_for(state="detached")
            self._go(f"{EXECUTIONS}{query}")
        else:
            self.page.goto(f"{self._url}{EXECUTIONS}{query}")
        self.tab.wait_for()

    def query(self) -> str:
        """Return the query string of the address."""
        return urlsplit(self.page.url).query

    def rows(self) -> list[list[str]]:
        """
        Return the lines of each cell of the table of executions, once nothing is being
        read. A DAG run is in it with its id, which the page has as the title of its
        date.
        """
        self.tab.get_by_role("button", name="Refresh").and_(
            self.page.locator(":enabled")
        ).wait_for()
        rows = []
        of_tasks = ".psm-executions tbody tr:not(.psm-next-row)"
        for row in self.tab.locator(of_tasks).all():
            cells = [
                " | ".join(text.split("\n"))
                for text in row.locator("th, td").all_inner_texts()
            ]
            run = row.locator(".psm-run")
            date = run.inner_text()
            cells[1] = cells[1].replace(date, run.get_attribute("title") or "")
            rows.append(cells)
        return rows

    def next_lines(self) -> list[str]:
        """Return what comes next, of each task that the page or the tab shows."""
        lines: list[str] = self.tab.locator(".psm-next").all_inner_texts()
        return lines

    def load_again(self) -> None:
        """
        Load the page again, and click the tab. The summary of the tests has what the
        page shows now.
        """
        warnings.warn(
            f"Loaded again: {self.page.locator('body').inner_text()!r}", stacklevel=2
        )
        self.page.reload()
        self._click_tab()

    def _click_tab(self) -> None:
        self.page.get_by_role("link", name="SageMaker", exact=True).click()
        self.tab.wait_for()

    def _go(self, path: str) -> None:
        self.page.evaluate(
            """path => { history.pushState(null, "", path); dispatchEvent(new PopStateEvent("popstate")); }""",
            f"{self._url}{path}",
        )

    def wait_for(self, text: str | re.Pattern[str]) -> None:
        """Wait until the tab shows a text."""
        self.tab.get_by_text(text).first.wait_for()

    def text(self) -> str:
        """Return all that the tab shows as text."""
        text: str = self.tab.inner_text()
        return text

    def button(self, name: str) -> Locator:
        """Return a button of the tab, by the beginning of its text."""
        return self.tab.get_by_role(
            "button", name=re.compile(rf"^\W*{re.escape(name)}")
        )

    def is_open(self, name: str) -> bool:
        """
        Return whether the row of a step, or another button that opens something, is
        open.
        """
        expanded: str | None = self.button(name).get_attribute("aria-expanded")
        return expanded == "true"

    def step_texts(self) -> list[str]:
        """Return what the row of each step shows, in one line each."""
        rows = self.tab.locator(".psm-step > .psm-row").all_inner_texts()
        return [
            " | ".join(part for part in row.split("\n") if part.strip()) for row in rows
        ]

    def stat(self, label: str) -> str:
        """Return a value in the header."""
        value: str = (
            self.tab.locator(".psm-stat", has_text=label).locator("dd").inner_text()
        )
        return value

    def lines_of(self, selector: str) -> int:
        """Return in how many lines the first of these elements shows its text."""
        lines: int = self.tab.locator(selector).first.evaluate(
            """element => {
              const range = document.createRange();
              range.selectNodeContents(element);
              return new Set([...range.getClientRects()].map(rect => Math.round(rect.top))).size;
            }"""
        )
        return lines

    def links(self) -> list[str]:
        """Return the target of each link to another site."""
        targets = [
            link.get_attribute("href") or ""
            for link in self.tab.get_by_role("link").all()
        ]
        return [target for target in targets if not target.startswith(self._url)]

    def table(self, name: str) -> list[list[str]]:
        """Return the rows of a table, by the beginning of its name."""
        rows = (
            self.tab.get_by_role("table", name=re.compile(f"^{re.escape(name)}"))
            .locator("tr")
            .all()
        )
        return [row.locator("th, td").all_inner_texts() for row in rows]

    def contrasts(self, selector: str) -> dict[str, float]:
        """Return the contrast of texts with their background, from 1 to 21."""
        return dict(self.tab.locator(selector).evaluate_all(_CONTRASTS))

    def answer(
        self,
        pattern: str,
        status: int,
        body: Any,
        headers: dict[str, str] | None = None,
    ) -> None:
        """
        Answer requests in the place of the API server.

        :param pattern: a regular expression that finds the URLs.
        :param status: the HTTP status.
        :param body: what to send as JSON.
        :param headers: further headers.
        """

        def respond(route: Route) -> None:
            route.fulfill(status=status, json=body, headers=headers)

        self.page.route(re.compile(pattern), respond)

    def answer_no_more(self) -> None:
        """Let all requests reach the API server again."""
        self.page.unroute_all()

    def hide(self, hidden: bool) -> None:
        """
        Hide the page, as if another tab of the browser were selected, or show it again.
        """
        self.page.evaluate(
            """hidden => {
              Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
              document.dispatchEvent(new Event("visibilitychange"));
            }""",
            hidden,
        )

    def reads_of_run(self, task: Task) -> int:
        """
        Return how often the page has read the XCom ``run`` of a task; it reads those of
        earlier runs, too.
        """
        query = f"xcoms?run_id={quote(task.run_id, safe='')}&task_id={task.task_id}"
        return sum(
            query in url and "key=run" in url.split("&") for url in self.api_requests
        )

    def _record_response(self, status: int, url: str) -> None:
        # Airflow's page asks for neither.
        if status == 404 and ("/xcomEntries" in url or URL_PREFIX in url):
            self.not_found.append(url)

    def _record(self, url: str) -> None:
        if "/api/v2/" in url or "/xcoms?" in url:
            self.api_requests.append(url)
