// What the steps of an execution have measured and used (XComs `run` and `outputs`), and how that differs from an
// earlier run. docs/reference/xcoms.md describes the XComs.
import { formatNumber, formatSeconds } from "./format.js";
import { property, readEntries, readInteger, readNumber, readText, readTime } from "./validation.js";

const MAX_STEPS_WITH_RESULTS = 500;
// AWS allows 40 metrics of a training job.
const MAX_METRICS = 40;
const MAX_INSTANCE_TYPES = 20;
const MAX_RESULT_NAME = 256;
// The difference of two such numbers is still a number.
const LARGEST_METRIC = 1e300;
const MAX_COST = 1e12;
const MAX_COST_NOTE = 2000;
const MAX_BILLABLE_SECONDS = 1e12;
const MAX_INSTANCES = 1_000_000;
// A larger change in percent, or one that is rounded to 0, says nothing.
const MAX_PERCENT = 1000;
const MAX_CHART_VALUES = 100;
const THE_SAME = "the same";

/** Returns what the steps have measured and used, by the name of the step; nothing of steps that say neither. */
export function readResults(outputs) {
  const read = readEntries(outputs, MAX_STEPS_WITH_RESULTS).map(([name, made]) => [
    readText(name, MAX_RESULT_NAME),
    readStepResults(made),
  ]);
  return new Map(read.filter(([name, results]) => name !== null && results.members.length > 0));
}

function readStepResults(made) {
  const measured = ["metrics", "objective"].filter((name) => readMetrics(property(made, name)).length > 0);
  const seconds = readSeconds(property(made, "billable_seconds")) ?? readSeconds(property(made, "seconds"));
  const used = ["billable_seconds", "seconds", "instance_type", "instance_count", "spot_savings_percent"];
  return {
    metrics: measured.flatMap((name) => readMetrics(made[name])),
    seconds,
    instanceType: readText(property(made, "instance_type"), MAX_RESULT_NAME),
    instanceCount: readInteger(property(made, "instance_count"), 1, MAX_INSTANCES),
    savedPercent: readNumber(property(made, "spot_savings_percent"), 0, 100),
    // The outputs of which these are the values.
    members: [...measured, ...(seconds === null ? [] : used)],
  };
}

function readMetrics(value) {
  return readEntries(value, MAX_METRICS)
    .map(([name, number]) => [
      readText(name, MAX_RESULT_NAME),
      readNumber(number, -LARGEST_METRIC, LARGEST_METRIC),
    ])
    .filter(([name, number]) => name !== null && number !== null);
}

function readSeconds(value) {
  return readNumber(value, 0, MAX_BILLABLE_SECONDS);
}

/**
 * Returns the seconds for which AWS bills an execution (XCom `run`), in all and by the type of instance, and its cost:
 * with `max_cost`, what its task has spent.
 */
export function readBilled(run) {
  const byType = readEntries(property(run, "billable_seconds_by_instance_type"), MAX_INSTANCE_TYPES)
    .map(([name, seconds]) => [readText(name, MAX_RESULT_NAME), readSeconds(seconds)])
    .filter(([name, seconds]) => name !== null && seconds !== null);
  const ownCost = readCost(property(run, "cost"));
  const at = readTime(property(run, "added_up_at"));
  const cost = readSpending(property(run, "spending")) ?? (ownCost && { ...ownCost, at });
  return { seconds: readSeconds(property(run, "billable_seconds")), byType, cost };
}

/** Returns what a task with `max_cost` has spent (XCom `spending`); null if it says nothing of it. */
export function readSpending(spending) {
  const cost = readCost(spending);
  const maxCost = readNumber(property(spending, "max_cost"), 0, MAX_COST);
  if (cost === null || maxCost === null) {
    return null;
  }
  const perHour = readNumber(property(spending, "per_hour"), 0, MAX_COST);
  const dearestStep = readText(property(spending, "dearest_step"), MAX_RESULT_NAME);
  return { ...cost, at: readTime(property(spending, "at")), maxCost, perHour, dearestStep };
}

/** Returns a cost, with what it lacks; null if it is none. */
export function readCost(cost) {
  const amount = readNumber(property(cost, "amount"), 0, MAX_COST);
  const currency = readText(property(cost, "currency"), 3);
  const date = readText(property(cost, "prices_date"), 10);
  const note = readText(property(cost, "note"), MAX_COST_NOTE);
  return amount === null || currency === null || date === null ? null : { amount, currency, date, note };
}

/**
 * Returns the values of an execution that are compared with those of others.
 *
 * Time and money are left out if it has not run all steps to the end. The duration of an execution that was resumed is
 * that of its last attempt only.
 */
export function valuesOf(run, results) {
  const isWhole = run.state === "Success" && !run.isSelective;
  return {
    duration: isWhole && run.resumes === 0 ? run.seconds : null,
    billable: isWhole ? run.billed.seconds : null,
    cost: isWhole ? run.billed.cost : null,
    startedAt: run.startedAt,
    results,
  };
}

/** Returns these values of an execution as the tab knows it. */
export function executionValues({ run, steps }) {
  return valuesOf(run, new Map(steps.filter((step) => step.results !== null).map((step) => [step.name, step.results])));
}

/** Returns a metric of a step; null if there is none. `results` are those of one step, or undefined. */
export function metricOf(results, name) {
  return results?.metrics.find(([each]) => each === name)?.[1] ?? null;
}

/** Returns the instance seconds of a step, of all its instances together; null if they are not known. */
export function billableOf(results) {
  return results === undefined || results.seconds === null
    ? null
    : results.seconds * (results.instanceCount ?? 1);
}

/** Returns what can be drawn over several runs: the name of each value, its format, and how to read it. */
export function chartValues({ results }) {
  const metrics = [...results].flatMap(([step, { metrics }]) =>
    metrics.map(([name]) => ({
      label: `${step}: ${name}`,
      format: formatNumber,
      isTime: false,
      read: (values) => metricOf(values.results.get(step), name),
    })),
  );
  return [
    ...metrics.slice(0, MAX_CHART_VALUES),
    { label: "Duration", format: formatSeconds, isTime: true, read: (values) => values.duration },
    { label: "Billable time", format: formatSeconds, isTime: true, read: (values) => values.billable },
  ];
}

/** Returns how a duration differs from an earlier one, such as "+4 min (+11 %)"; null if one is not known. */
export function compareSeconds(now, before) {
  // What is less than a second is the time that requests take.
  return now === null || before === null
    ? null
    : describeDifference(Math.round(now), Math.round(before), formatSeconds);
}

/** Returns how a metric differs from an earlier one, such as "-0.02 (-2.4 %)"; null if one is not known. */
export function compareNumbers(now, before) {
  if (now === null || before === null) {
    return null;
  }
  // What is not seen in the numbers themselves is an error of rounding.
  const isSame = formatNumber(now) === formatNumber(before);
  return isSame ? THE_SAME : describeDifference(now, before, formatDifference);
}

// Few digits: the last ones of a difference are errors of rounding.
function formatDifference(number) {
  return formatNumber(number, 3);
}

function describeDifference(now, before, format) {
  const difference = now - before;
  if (difference === 0) {
    return THE_SAME;
  }
  const sign = difference < 0 ? "-" : "+";
  const percent = before === 0 ? Infinity : Math.abs(difference / before) * 100;
  const rounded = percent < 10 ? Number(percent.toFixed(1)) : Math.round(percent);
  const share = rounded === 0 || rounded > MAX_PERCENT ? "" : ` (${sign}${rounded} %)`;
  return `${sign}${format(Math.abs(difference))}${share}`;
}
