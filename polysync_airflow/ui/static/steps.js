// The steps of an execution, one row for each, with bars on a common time axis.
import { Arn, Chevron, ConsoleLink, h, Mark, StateBadge, ValueTable } from "./components.js";
import { BilledStep, Metrics } from "./comparison.js";
import { isReused, secondsOf, timeAxis } from "./execution.js";
import { axisTicks, formatNumber, formatSeconds, formatTime } from "./format.js";
import { useExecutionTime } from "./polling.js";

const { memo, useCallback, useState } = globalThis.React;

const METRICS_IN_ROW = 1;
// How wide the mark of a pause is, and the text of a tick, as parts of the axis.
const MARK = 0.02;
const LABEL = 0.1;

/** The list of steps; `last` are the values of an earlier run. Failed steps are open until somebody closes them. */
export function Timeline({ data, last }) {
  const { run, steps, consoleUrl } = data.execution;
  const now = useExecutionTime(data);
  const axis = timeAxis(run, steps, now);
  const [choices, setChoices] = useState(() => new Map());
  const toggle = useCallback((index, isOpen) => setChoices((old) => new Map(old).set(index, isOpen)), []);
  return h(
    "section",
    { className: "psm-card psm-timeline", "aria-label": "Steps" },
    axis && h(Axis, { axis }),
    h(
      "ol",
      { className: "psm-steps" },
      steps.map((step, index) =>
        h(Step, {
          key: index,
          index,
          step,
          runArn: run.arn,
          consoleUrl,
          before: step.state === "Success" ? last?.results.get(step.name) : undefined,
          isOpen: choices.get(index) ?? step.state === "Failed",
          toggle,
          ...barOf(step, axis, now),
          // Rows of steps that do not run need no new time, so they are not rendered again.
          now: step.state === "Running" ? now : 0,
        }),
      ),
    ),
  );
}

function Axis({ axis }) {
  const pauses = axis.pauses.map((pause) => ({ ...pause, at: axis.position(pause.to) }));
  const isFree = ([at]) => pauses.every((pause) => pause.at < at - MARK || pause.at > at + LABEL);
  return h(
    "div",
    { className: "psm-row psm-axis", "aria-hidden": true },
    h("span", { className: "psm-axis-title" }, "Step"),
    h("span", { className: "psm-axis-title" }, "State"),
    h(
      "div",
      { className: "psm-track" },
      axisTicks({ start: 0, end: axis.length }).filter(isFree).map(([at, label]) =>
        h("span", { key: label, className: "psm-tick", style: { left: `${at * 100}%` } }, label),
      ),
      pauses.map(({ from, to, at }) => {
        const title = `${formatSeconds((to - from) / 1000)} before the resume are left out`;
        return h("span", { key: from, className: "psm-pause", style: { left: `${at * 100}%` }, title });
      }),
    ),
    h("span", { className: "psm-axis-title psm-duration" }, "Duration"),
  );
}

/** Returns where the bar of a step begins, and how long it is, from 0 to 1; null if it has not started. */
function barOf(step, axis, now) {
  if (step.startedAt === null || axis === null) {
    return { left: null, width: null };
  }
  const end = step.endedAt ?? (step.state === "Running" ? now : step.startedAt + (step.seconds ?? 0) * 1000);
  const left = axis.position(step.startedAt);
  return { left, width: Math.max(0, axis.position(end) - left) };
}

// React compares the properties by identity, and each refresh brings new objects. Most steps stay as they are.
const Step = memo(StepRow, (old, next) =>
  Object.keys(next).every(
    (name) => old[name] === next[name] || (name === "step" && isSame(old.step, next.step)),
  ),
);

function isSame(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

function StepRow({ index, step, runArn, consoleUrl, before, isOpen, toggle, left, width, now }) {
  const seconds = secondsOf(step, now);
  const details = detailsOf({ step, before, runArn, consoleUrl });
  const content = [
    h(
      "span",
      { key: "name", className: "psm-step-name" },
      details.length > 0
        ? h(Chevron, { isOpen })
        : h("span", { className: "psm-chevron", "aria-hidden": true }),
      h(
        "span",
        { className: "psm-step-title" },
        h("span", { className: "psm-name" }, step.name),
        h("span", { className: "psm-type" }, step.type ?? "", h(Marks, { step })),
      ),
    ),
    h("span", { key: "state" }, h(StateBadge, { state: step.state })),
    h(Bar, { key: "bar", step, left, width }),
    h("span", { key: "duration", className: "psm-duration" }, formatSeconds(seconds)),
  ];
  const className = `psm-step${step.state.startsWith("Not") ? " psm-not-started" : ""}`;
  if (details.length === 0) {
    return h("li", { className }, h("div", { className: "psm-row" }, content));
  }
  const id = `psm-step-${index}`;
  const props = {
    type: "button",
    className: "psm-row psm-row-button",
    "aria-expanded": isOpen,
    "aria-controls": id,
    onClick: () => toggle(index, !isOpen),
  };
  return h(
    "li",
    { className },
    h("button", props, content),
    h("div", { id, hidden: !isOpen, className: "psm-details" }, isOpen && h("dl", null, details)),
  );
}

function Marks({ step }) {
  return h(
    "span",
    { className: "psm-marks" },
    step.outcome !== null && h(Mark, { title: "The outcome of the condition" }, `outcome: ${step.outcome}`),
    step.attempt !== null && step.attempt > 1 && h(Mark, null, `attempt ${step.attempt}`),
    step.isKept && h(Mark, { title: "It ended before the execution was resumed last" }, "before the resume"),
    step.results?.metrics
      .slice(0, METRICS_IN_ROW)
      .map(([name, value]) => h(Mark, { key: name, title: `Metric ${name}` }, `${name}: ${formatNumber(value)}`)),
    step.cacheHit && h(Mark, { title: "SageMaker reused the result of an earlier execution" }, "cache hit"),
    isReused(step) && h(Mark, { title: "The step was not selected" }, `reused from ${idOf(step.reusedFrom)}`),
  );
}

function idOf(arn) {
  return arn.split("/").at(-1);
}

function Bar({ step, left, width }) {
  const style = { left: `${left * 100}%`, width: `${width * 100}%` };
  const className = `psm-bar psm-state-${step.state}${step.cacheHit ? " psm-bar-cached" : ""}`;
  return h("span", { className: "psm-track" }, left !== null && h("span", { className, style }));
}

/** What is known of a step, apart from its state. */
export function StepDetails(props) {
  return h("div", { className: "psm-step-details" }, h("dl", null, detailsOf(props)));
}

function detailsOf({ step, before, runArn, consoleUrl }) {
  const details = [
    step.reason && ["Reason", h("span", { className: "psm-reason" }, step.reason)],
    step.logLines.length > 0 && [
      "End of the log",
      h(
        "pre",
        { className: "psm-log", tabIndex: 0, "aria-label": `Log of ${step.name}` },
        step.logLines.join("\n"),
      ),
    ],
    step.results?.metrics.length > 0 && ["Metrics", h(Metrics, { step, before })],
    step.results && step.results.seconds !== null && ["Billable time", h(BilledStep, { step, before })],
    step.logUrl && ["Log", h(ConsoleLink, { url: step.logUrl }, `Open the log in ${logServiceOf(step.logUrl)}`)],
    (step.jobArn ?? step.jobName ?? step.consoleUrl) && ["Job", h(Job, { step })],
    step.job?.image && ["Image", h("span", { className: "psm-code" }, step.job.image)],
    step.job?.inputs.length > 0 && [
      "Inputs",
      h(
        "span",
        { className: "psm-stack" },
        step.job.inputs.map((uri, index) => h("span", { key: index, className: "psm-code" }, uri)),
      ),
    ],
    step.outputs.length > 0 && [
      "Outputs",
      h(ValueTable, { rows: step.outputs, label: `Outputs of ${step.name}` }),
    ],
    step.reusedFrom !== null && ["Reused from", h(ReusedFrom, { arn: step.reusedFrom, runArn, consoleUrl })],
    step.startedAt !== null && ["Time", timesOf(step)],
    step.status && ["AWS status", step.status],
  ].filter(Boolean);
  return details.map(([name, value]) =>
    h("div", { key: name, className: "psm-detail" }, h("dt", null, name), h("dd", null, value)),
  );
}

/** Returns where a log is: EMR and EMR Serverless write to S3. */
function logServiceOf(url) {
  return url.includes("/s3/buckets/") ? "S3" : "CloudWatch";
}

function ReusedFrom({ arn, runArn, consoleUrl }) {
  // The console has both executions under one pipeline, so their URLs differ in the ARN only.
  const url = consoleUrl?.includes(runArn) ? consoleUrl.replace(runArn, () => arn) : null;
  return h(
    "span",
    { className: "psm-stack" },
    url && h(ConsoleLink, { url }, `Execution ${idOf(arn)}`),
    h(Arn, { arn, label: "Copy the ARN of the execution from which the step was reused" }),
  );
}

function Job({ step }) {
  return h(
    "span",
    { className: "psm-stack" },
    step.consoleUrl &&
      h(ConsoleLink, { url: step.consoleUrl }, step.jobName ?? "Open the job in the AWS console"),
    !step.consoleUrl && step.jobName && h("span", { className: "psm-code" }, step.jobName),
    step.jobArn && h(Arn, { arn: step.jobArn, label: `Copy the ARN of the job of ${step.name}` }),
  );
}

function timesOf(step) {
  const end = step.endedAt === null ? "" : ` to ${formatTime(step.endedAt)}`;
  return `${step.endedAt === null ? "since " : ""}${formatTime(step.startedAt)}${end}`;
}
