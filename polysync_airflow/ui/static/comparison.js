// What an execution has measured and used, beside the same of the last successful run of its task.
import { Chart } from "./chart.js";
import { Disclosure, h, HeaderRow, Stat } from "./components.js";
import { hasEarlierAttempts } from "./execution.js";
import { formatClock, formatCost, formatEarlierCosts, formatNumber, formatSeconds, formatTime } from "./format.js";
import { billableOf, chartValues, compareNumbers, compareSeconds, executionValues, metricOf } from "./results.js";

const { useState } = globalThis.React;

const LAST_RUN = "last successful run";
// AWS lists the last attempt only.
const NO_EARLIER = "without earlier attempts";
const NO_RUNS = "There is no earlier successful run of this task with which this one could be compared.";

/** A value of the last successful run, and how the present one differs from it. */
export function Compared({ now, before }) {
  const difference = compareSeconds(now, before);
  return (
    difference !== null &&
    h("div", { className: "psm-muted" }, `${LAST_RUN}: ${formatSeconds(before)}, now ${difference}`)
  );
}

/** The seconds for which AWS bills, in the header. */
export function Billed({ billed, before, isPartial }) {
  if (billed.seconds === null) {
    return null;
  }
  const types = billed.byType.map(([type, seconds]) =>
    billed.byType.length === 1 ? type : `${type}: ${formatSeconds(seconds)}`,
  );
  return h(
    Stat,
    { label: "Billable time" },
    [formatSeconds(billed.seconds) || "0 s", types.join(", "), isPartial && NO_EARLIER].filter(Boolean).join(" · "),
    h(Compared, { now: billed.seconds, before }),
  );
}

/** What that costs, by the prices that the deployment has, in the header, what it lacks, and what earlier runs cost. */
export function Cost({ cost, earlier }) {
  const before = formatEarlierCosts(earlier);
  if (cost === null && before === null) {
    return null;
  }
  return h(
    Stat,
    { label: "Estimated cost" },
    cost && [
      [formatCost(cost), asOf(cost), `prices of ${cost.date}`].filter(Boolean).join(" · "),
      h(CostNote, { key: "note", cost }),
    ],
    before && h("div", { className: "psm-muted" }, before),
  );
}

/**
 * What a task with a limit has spent: all its executions since the last clear.
 *
 * It is written when what an hour costs changes, so `now` says how much has been added; null after the end.
 */
export function Spending({ spending, now }) {
  return h(Stat, { label: "Spent, as estimated" }, describeSpending(spending, now), h(CostNote, { cost: spending }));
}

/** Returns when a cost was added up; nothing if that is not known. */
export function asOf({ at }) {
  return typeof at === "number" && `as of ${formatClock(at)}`;
}

/** Returns what was spent, and the limit. */
export function formatLimited(spending) {
  return `${formatCost(spending)} of at most ${spending.maxCost.toFixed(2)}`;
}

/** Returns what was spent, the limit, what an hour costs or when that was added up, and the dearest step. */
export function describeSpending(spending, now) {
  const isRunning = now !== null && spending.at !== null && spending.perHour !== null;
  const added = isRunning ? (spending.perHour * Math.max(0, now - spending.at)) / 3_600_000 : 0;
  const parts = [
    formatLimited({ ...spending, amount: spending.amount + added }),
    isRunning ? `${spending.perHour.toFixed(2)} an hour` : asOf(spending),
    spending.dearestStep !== null && `dearest step: ${spending.dearestStep}`,
  ];
  return parts.filter(Boolean).join(" · ");
}

/** What a cost lacks. */
function CostNote({ cost }) {
  return cost.note !== null && h("div", { className: "psm-muted" }, cost.note);
}

/** What earlier runs cost, before there is an execution. */
export function EarlierCosts({ costs }) {
  const text = formatEarlierCosts(costs);
  return text !== null && h("div", null, `Estimated cost of the ${text}`);
}

/** The metrics of a step. */
export function Metrics({ step, before }) {
  const rows = step.results.metrics.map(([name, value]) => {
    const earlier = metricOf(before, name);
    return [name, formatNumber(value), earlier === null ? "" : formatNumber(earlier), compareNumbers(value, earlier)];
  });
  const isCompared = rows.some(([, , earlier]) => earlier !== "");
  const columns = isCompared ? ["Metric", "This run", "Last successful run", "Difference"] : ["Metric", "This run"];
  return h(
    "table",
    { className: "psm-table psm-table-wide", "aria-label": `Metrics of ${step.name}` },
    h("thead", null, h(HeaderRow, { columns })),
    h(
      "tbody",
      null,
      rows.map(([name, ...cells], index) =>
        h(
          "tr",
          { key: index },
          h("th", { scope: "row" }, name),
          cells.slice(0, columns.length - 1).map((text, column) => h("td", { key: column }, text)),
        ),
      ),
    ),
  );
}

/** The instances of a step, and for how long AWS bills them. */
export function BilledStep({ step, before }) {
  const { seconds, instanceType, instanceCount, savedPercent } = step.results;
  const count = instanceCount ?? 1;
  const parts = [
    formatSeconds(billableOf(step.results)),
    instanceType && (count > 1 ? `${count} × ${instanceType}, ${formatSeconds(seconds)} each` : instanceType),
    savedPercent !== null && `${formatNumber(savedPercent, 3)} % saved by spot instances`,
    hasEarlierAttempts(step) && NO_EARLIER,
    (step.cacheHit || step.reusedFrom !== null) && "paid by an earlier execution",
    step.type === "Tuning" && "of all its training jobs together",
  ];
  return [
    h("div", { key: "now" }, parts.filter(Boolean).join(" · ")),
    h(Compared, { key: "before", now: billableOf(step.results), before: billableOf(before) }),
  ];
}

/** The last runs: a chart of one of their values, and a table of it. */
export function EarlierRuns({ execution, earlier }) {
  const [chosen, setChosen] = useState(0);
  if (!earlier.isRead) {
    return null;
  }
  const runs = [...earlier.runs].reverse().map(({ runId, runAfter, page, values }) => {
    const time = formatTime(values.startedAt ?? runAfter);
    return { name: runId, label: time, time, page, values, isThis: false };
  });
  const values = executionValues(execution);
  const time = formatTime(values.startedAt);
  runs.push({ name: "this run", label: "this run", time, page: null, values, isThis: true });
  const choices = chartValues(values).filter(({ read }) => runs.filter((run) => read(run.values) !== null).length > 1);
  const series = choices[chosen] ?? choices[0];
  const isCompared = earlier.runs.length > 0;
  return h(
    "section",
    { className: "psm-card", "aria-label": "Earlier runs" },
    h(
      "div",
      { className: "psm-title" },
      h("h2", null, "Earlier runs"),
      h("span", { className: "psm-spacer" }),
      series && h(Choice, { choices, chosen: choices.indexOf(series), setChosen }),
    ),
    earlier.last !== null && h(LastRun, { run: runs.at(-2) }),
    !isCompared && earlier.note === null && h("p", { className: "psm-muted" }, NO_RUNS),
    earlier.note !== null && h("p", { className: "psm-muted", role: "status" }, earlier.note),
    series && h(Runs, { runs, series }),
  );
}

function Choice({ choices, chosen, setChosen }) {
  const props = {
    className: "psm-select",
    value: chosen,
    onChange: (event) => setChosen(Number(event.target.value)),
  };
  return h(
    "label",
    { className: "psm-choice" },
    "Value",
    h(
      "select",
      props,
      choices.map(({ label }, index) => h("option", { key: index, value: index }, label)),
    ),
  );
}

function LastRun({ run }) {
  const link = h("a", { href: run.page, className: "psm-link" }, run.name);
  return h("p", { className: "psm-muted" }, "The last successful run before this one: ", link);
}

function Runs({ runs, series }) {
  const points = runs.map((run) => {
    const value = series.read(run.values);
    const text = value === null ? "–" : series.format(value);
    return { ...run, value, text, title: `${run.name}, ${run.time}: ${text}` };
  });
  return [
    h(Chart, { key: "chart", points, series, name: `Chart: ${series.label}. The table has its values.` }),
    h(
      Disclosure,
      { key: "table", id: "psm-runs", title: "Table of these values" },
      h(RunsTable, { points: [...points].reverse(), label: series.label }),
    ),
  ];
}

function RunsTable({ points, label }) {
  const columns = ["Run", "Started", label];
  return h(
    "table",
    { className: "psm-table psm-table-wide", "aria-label": `${label} of the last runs` },
    h("thead", null, h(HeaderRow, { columns })),
    h(
      "tbody",
      null,
      points.map(({ name, page, time, text }, index) =>
        h(
          "tr",
          { key: index },
          h("th", { scope: "row" }, page === null ? name : h("a", { href: page, className: "psm-link" }, name)),
          h("td", { className: "psm-time" }, time),
          h("td", null, text),
        ),
      ),
    ),
  );
}
