// The page "SageMaker" in the navigation: all executions of this Airflow that the person who looks may see.
import { pageOf } from "./airflow_api.js";
import { asOf, describeSpending, formatLimited } from "./comparison.js";
import { Button, Duration, h, Mark, Notice, StateBadge } from "./components.js";
import { SHOWN_STATES } from "./execution.js";
import { needsXComs, readFilters, writeFilters } from "./execution_filters.js";
import {
  durationsOfRow,
  pipelineOf,
  readExecutions,
  remarkOf,
  stateOf,
} from "./executions.js";
import { Summary } from "./executions_summary.js";
import { formatCost, formatSeconds, formatTime } from "./format.js";
import { ErrorNotice, Loading } from "./notices.js";
import { useNow, usePolling } from "./polling.js";
import { readTime } from "./validation.js";
import { Next } from "./what_next.js";

const { Fragment, useCallback, useEffect, useRef, useState } = globalThis.React;

// New executions appear, also while none runs.
const IDLE_INTERVAL = 30_000;
const SINCE = { "1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days" };
// What Airflow calls the ways in which people trigger a DAG.
const INTERFACES = { ui: "UI", cli: "CLI", rest_api: "REST API" };
const BILLED = "Billable time, cost";
const COLUMNS = [
  ...["State", "DAG and run", "Task", "Pipeline", "Started", "Duration"],
  ...["Steps", BILLED, "Started by"],
];

/** The page. Its filters are in the query string of the address. */
export function ExecutionsPage() {
  const [query, setQuery] = useQuery();
  const filters = readFilters(new URLSearchParams(query));
  const memory = useRef(new Map());
  const read = useCallback((key, signal, show) => readExecutions(key, memory.current, signal, show), []);
  const [state, refresh, refreshes] = usePolling(filters, read, IDLE_INTERVAL);
  const setFilters = (changes) => setQuery(writeFilters({ ...filters, offset: 0, ...changes }));
  const isReady = state.data !== null && !state.isReading;
  return h(
    Fragment,
    null,
    h(
      "div",
      { className: "psm-title" },
      h("h1", null, "SageMaker pipeline executions"),
      h("span", { className: "psm-spacer" }),
      h(Button, { onClick: refresh, isDisabled: state.isReading }, "Refresh"),
    ),
    h(Filters, { filters, setFilters }),
    state.error && h(Problem, { state, refresh }),
    h(Summary, { filters, setFilters, refreshes, readAt: state.readAt, isReady }),
    state.data ? h(Found, { state, filters, setFilters }) : !state.error && h(Loading),
  );
}

/**
 * Returns the query string of the address, and a function that replaces it.
 *
 * The router is not told: when it renders the component again for the first time, Airflow builds it anew, which would
 * take the focus away, and read all again.
 */
function useQuery() {
  const place = globalThis.ReactRouterDOM.useLocation();
  const [query, setQuery] = useState(location.search);
  useEffect(() => setQuery(location.search), [place]);
  const replaceQuery = (members) => {
    const text = new URLSearchParams(members).toString();
    history.replaceState(history.state, "", `${location.pathname}${text === "" ? "" : `?${text}`}`);
    setQuery(location.search);
  };
  return [query, replaceQuery];
}

function Problem({ state, refresh }) {
  const text = "Airflow lets you see no task instances. An administrator of Airflow can change that.";
  return state.error.status === 403
    ? h(Notice, { kind: "warning", title: "No permission to see executions" }, text)
    : h(ErrorNotice, { state, refresh });
}

function Filters({ filters, setFilters }) {
  const [draft, setDraft] = useState(filters);
  const text = JSON.stringify(filters);
  useEffect(() => setDraft(JSON.parse(text)), [text]);
  const apply = (changes) => setFilters({ ...draft, ...changes, offset: 0 });
  const onSubmit = (event) => {
    event.preventDefault();
    apply({});
  };
  const field = (name, label, placeholder = "") => {
    const onChange = (event) => setDraft({ ...draft, [name]: event.target.value });
    const props = { value: draft[name], onChange, placeholder, maxLength: 256, className: "psm-select" };
    return h("label", { className: "psm-choice" }, label, h("input", { ...props, type: "search" }));
  };
  const choice = (name, label, all, options) => {
    const onChange = (event) => apply({ [name]: event.target.value });
    const choices = [["", all], ...options].map(([value, title]) => h("option", { key: value, value }, title));
    const props = { value: draft[name], onChange, className: "psm-select" };
    return h("label", { className: "psm-choice" }, label, h("select", props, choices));
  };
  const isFiltered = Object.keys(writeFilters({ ...filters, offset: 0 })).length > 0;
  return h(
    "form",
    { role: "search", "aria-label": "Filters", className: "psm-filters", onSubmit },
    choice("state", "State", "All", SHOWN_STATES.map((state) => [state, state])),
    field("dag", "DAG"),
    field("pipeline", "Pipeline"),
    field("parameter", "Parameter", "name=value"),
    choice("since", "Started", "Any time", Object.entries(SINCE)),
    h(Button, { type: "submit" }, "Filter"),
    isFiltered && h(Button, { onClick: () => setFilters(readFilters(new URLSearchParams())) }, "Clear filters"),
  );
}

function Found({ state, filters, setFilters }) {
  const { rows, failures, isFinal, clockOffset } = state.data;
  const now = useNow(!isFinal) + clockOffset;
  const forbidden = rows.filter(({ detail }) => detail?.forbidden).length;
  return h(
    Fragment,
    null,
    forbidden > 0 &&
      h(
        Notice,
        { kind: "warning", title: "No permission to read XComs" },
        `You may see ${countOf(forbidden, "task")}, but not what SageMaker has told them.`,
      ),
    failures.length > 0 &&
      h(
        Notice,
        { kind: "warning", title: "Some values are missing" },
        `${countOf(failures.length, "request")} failed, the first with: ${failures[0].message}`,
      ),
    rows.length > 0 && h(Executions, { rows, now }),
    rows.length === 0 && !state.isReading && h(NoRows, { filters }),
    h(Pages, { state, filters, setFilters }),
  );
}

function NoRows({ filters }) {
  const isFiltered = Object.keys(writeFilters(filters)).length > 0;
  const text = isFiltered
    ? "No execution among these tasks has what the filters ask for."
    : "No task that starts a pipeline has run yet, or you may see none of them.";
  return h(Notice, { kind: "info", title: "There are no executions" }, text);
}

function Pages({ state, filters, setFilters }) {
  const { rows, compared, total, next } = state.data;
  const isCompared = needsXComs(filters);
  const range = `${filters.offset + 1} to ${filters.offset + compared}`;
  const all = total.toLocaleString("en");
  const which = compared === total ? `all ${all}` : `${range} of ${all}`;
  const text = isCompared
    ? `${rows.length} ${rows.length === 1 ? "matches" : "match"} the filters. Tasks compared with them: ${which}.`
    : `Tasks that start executions: ${which}.`;
  const reading = state.isReading ? " Reading …" : "";
  return h(
    "nav",
    { className: "psm-footer", "aria-label": "Pages" },
    h("span", { className: "psm-muted" }, h("span", { role: "status" }, compared > 0 ? text : ""), reading),
    h(
      "span",
      { className: "psm-answers" },
      filters.offset > 0 && h(Button, { onClick: () => setFilters({ offset: 0 }) }, "Newest"),
      next !== null &&
        !state.isReading &&
        h(Button, { onClick: () => setFilters({ offset: next }) }, isCompared ? "Look further" : "Older"),
    ),
  );
}

function Executions({ rows, now }) {
  const [isByCost, setByCost] = useState(false);
  // Airflow cannot sort by what XComs have, so only the rows of this page are sorted.
  const sorted = isByCost ? rows.toSorted((one, other) => costOf(other) - costOf(one)) : rows;
  const sort = {
    kind: "small",
    onClick: () => setByCost(!isByCost),
    "aria-pressed": isByCost,
    title: "Dearest of these first",
  };
  const header = (name) => h("th", { key: name, scope: "col" }, name === BILLED ? h(Button, sort, name) : name);
  return h(
    "div",
    { className: "psm-card psm-scroll", role: "region", "aria-label": "Executions", tabIndex: 0 },
    h(
      "table",
      { className: "psm-executions" },
      h("thead", null, h("tr", null, COLUMNS.map(header))),
      h("tbody", null, sorted.map((row) => h(Row, { key: row.id, row, now: row.detail?.isFinal ? 0 : now }))),
    ),
  );
}

function Row({ row, now }) {
  const { key, task, detail } = row;
  const run = detail?.run ?? null;
  const [dag, dagRun] = [key.dagId, key.runId].map(encodeURIComponent);
  const cells = h(
    "tr",
    null,
    h("td", null, h(State, { row })),
    h(
      "td",
      null,
      h(PageLink, { path: `dags/${dag}`, title: key.dagId }, key.dagId),
      h(PageLink, { path: `dags/${dag}/runs/${dagRun}`, isMuted: true, title: key.runId }, runName(row)),
    ),
    h("th", { scope: "row" }, h(PageLink, { path: pageOf(key), title: key.taskId }, key.taskId), h(MapIndex, { row })),
    h("td", { title: pipelineOf(row) }, pipelineOf(row) ?? "–"),
    h("td", { className: "psm-short" }, formatTime(run?.startedAt ?? task.startedAt) || "–"),
    h("td", { className: "psm-short" }, h(DurationNow, { row, now })),
    h("td", null, h(Steps, { row })),
    h("td", null, h(BilledTime, { run })),
    h("td", null, h(Starter, { starter: row.starter })),
  );
  const next = detail?.next ?? [];
  const cell = h("td", { colSpan: COLUMNS.length }, h(Next, { next }));
  return h(Fragment, null, cells, next.length > 0 && h("tr", { className: "psm-next-row" }, cell));
}

function State({ row }) {
  const state = stateOf(row);
  if (state === null) {
    const unread = row.isRead ? "not read" : "…";
    return row.detail === null ? unread : "–";
  }
  if (row.detail.run === null) {
    return h(NoExecution, { row, state });
  }
  const { run } = row.detail;
  const remark = remarkOf(row);
  return h(
    "span",
    { className: "psm-stack" },
    h("span", null, h(StateBadge, { state })),
    run.capacity !== null && h(CapacityWait, { capacity: run.capacity }),
    remark !== null && h("span", null, h(Mark, { title: "The task has ended before the execution" }, remark)),
  );
}

function NoExecution({ row: { task, detail }, state }) {
  if (state === "None") {
    return ["No execution", h("div", { key: "task", className: "psm-muted" }, `task ${task.state}`)];
  }
  const text = `No execution: ${detail.error ?? "the log of the task says why"}`;
  return h(
    "span",
    { className: "psm-stack" },
    h("span", null, h(StateBadge, { state })),
    h("span", { className: "psm-muted psm-cut", title: text }, text),
  );
}

function DurationNow({ row, now }) {
  const run = row.detail?.run ?? null;
  return run === null ? "–" : h(Duration, { run, durations: durationsOfRow(row, now) });
}

function CapacityWait({ capacity: { since, reason } }) {
  const text = since === null ? "" : `since ${formatTime(since)}`;
  return h("span", { className: "psm-muted psm-cut", title: [text, reason].filter(Boolean).join(": ") }, text);
}

function MapIndex({ row: { key, mapped } }) {
  if (key.mapIndex < 0) {
    return null;
  }
  const all = mapped ? `; ${describeMapped(mapped)}` : "";
  const text = `map index ${key.mapIndex}${all}`;
  return h("div", { className: "psm-muted", title: text }, text);
}

function describeMapped({ counts, counted, total }) {
  const first = counted < total ? `, of the first ${counted}` : "";
  return `${total} in all${first}: ${counts.map(([number, label]) => `${number} ${label}`).join(", ")}`;
}

function Steps({ row: { detail } }) {
  const steps = detail?.steps;
  if (!steps || steps.total === 0) {
    return "–";
  }
  const { failedSteps, failures } = detail.run;
  const more = failures > 1 ? ` and ${failures - 1} more` : "";
  const failed = `failed: ${failedSteps[0]?.name}${more}`;
  return [
    h("div", { key: "done", className: "psm-short" }, `${steps.done} of ${steps.total}`),
    failures > 0 && h("div", { key: "failed", className: "psm-muted", title: failed }, failed),
  ];
}

function costOf({ detail }) {
  return detail?.run?.billed.cost?.amount ?? -1;
}

function BilledTime({ run }) {
  const cost = run?.billed.cost ?? null;
  return [
    formatSeconds(run?.billed.seconds ?? null) || "–",
    cost !== null && h("div", { key: "cost", className: "psm-muted", title: titleOf(cost) }, describeCost(cost)),
  ];
}

function describeCost(cost) {
  if ("maxCost" in cost) {
    return `Spent: ${formatLimited(cost)}`;
  }
  return cost.note === null ? formatCost(cost) : `${formatCost(cost)}, not complete`;
}

/** Returns what has no place in the cell. */
function titleOf(cost) {
  const what = "maxCost" in cost ? describeSpending(cost, null) : asOf(cost);
  return [what, cost.note].filter(Boolean).join(" · ");
}

function Starter({ starter }) {
  if (starter === null) {
    return "–";
  }
  const { user, type, by } = starter;
  const parts = [type, type === "manual" && by].filter(Boolean);
  const how = parts.map((name) => INTERFACES[name] ?? name.replaceAll("_", " ")).join(", ");
  return [
    user && h("div", { key: "user", title: user }, user),
    h("div", { key: "how", className: user ? "psm-muted psm-short" : "psm-short" }, how),
  ];
}

/** Returns the date of a DAG run: its id can have 250 characters. */
function runName({ key, task }) {
  return formatTime(readTime(task.runAfter)) || key.runId;
}

function PageLink({ path, title, isMuted = false, children }) {
  const className = isMuted ? "psm-link psm-run" : "psm-link";
  return h(globalThis.ReactRouterDOM.Link, { to: `/${path}`, title, className }, children);
}

function countOf(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
