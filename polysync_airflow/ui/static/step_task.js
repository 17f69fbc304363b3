// The tab of a task that watches one step of an execution.
import { pageOf } from "./airflow_api.js";
import { clearEffects } from "./clear_effect.js";
import { Cost } from "./comparison.js";
import { Button, ConsoleLink, Disclosure, h, Notice, Stat, StateBadge, StateIcon, ValueTable } from "./components.js";
import { secondsOf } from "./execution.js";
import { formatCost, formatSeconds } from "./format.js";
import { useExecutionTime } from "./polling.js";
import { StepDetails } from "./steps.js";
import { shownState } from "./stops.js";
import { Next } from "./what_next.js";

/** The step, the others of its execution, what a clear of this task does, and the details of the step. */
export function StepTask({ state, refresh }) {
  const { task, next, step: data } = state.data;
  const action = h(Button, { onClick: refresh, isDisabled: state.isReading }, "Refresh");
  return [
    data.step === null
      ? h(NoStep, { key: "none", data, action })
      : h(Step, { key: "step", task, next, data, action }),
    h(ClearEffects, { key: "clear", data }),
    data.step !== null && h(Details, { key: "details", data }),
  ];
}

function NoStep({ data, action }) {
  const { group, execution, executionKey } = data;
  const link = h(TaskLink, { taskKey: executionKey }, "the execution");
  if (execution === null) {
    const text = `Step ${group.own.name} appears here as soon as its task has started `;
    return h(Notice, { kind: "info", title: "There is no execution yet", action }, text, link, ".");
  }
  const text = "The pipeline has changed since the file of this group was written, or AWS has not listed the steps of ";
  return h(Notice, { kind: "info", title: `Step ${group.own.name} is not known`, action }, text, link, " yet.");
}

function TaskLink({ taskKey, children, ...props }) {
  return h("a", { href: new URL(pageOf(taskKey), document.baseURI).href, className: "psm-link", ...props }, children);
}

function Step({ task, next, data, action }) {
  const { step, execution, executionKey } = data;
  const { run } = execution;
  return h(
    "section",
    { className: "psm-card", "aria-label": "Step" },
    h(
      "div",
      { className: "psm-title" },
      h("span", { role: "status" }, h(StateBadge, { state: step.state, isLarge: true })),
      h("h2", { className: "psm-name" }, step.name),
      h("span", { className: "psm-spacer" }),
      step.consoleUrl && h(ConsoleLink, { url: step.consoleUrl, className: "psm-button" }, "Job in SageMaker"),
      action,
    ),
    h(Next, { next }),
    h(
      "dl",
      { className: "psm-stats" },
      step.type && h(Stat, { label: "Type" }, step.type),
      h(Stat, { label: "Duration" }, h(Duration, { data })),
      step.attempt !== null && h(Stat, { label: "Attempt of the step" }, step.attempt),
      task.tryNumber > 1 && h(Stat, { label: "Try of the task" }, task.tryNumber),
      h(
        Stat,
        { label: "Execution" },
        h(StateIcon, { state: shownState(data.task, run, data.isFinal) }),
        h(TaskLink, { taskKey: executionKey }, run.pipeline ?? "Execution"),
      ),
      step.job && h(Cost, { cost: step.job.cost, earlier: [] }),
      run.billed.cost !== null && h(Stat, { label: "Cost of the execution" }, formatCost(run.billed.cost)),
    ),
    h(AllSteps, { data }),
  );
}

function Details({ data }) {
  const { step, execution } = data;
  return h(
    "section",
    { className: "psm-card", "aria-label": "Details of the step" },
    h(StepDetails, { step, runArn: execution.run.arn, consoleUrl: execution.consoleUrl }),
    h(Inputs, { data }),
  );
}

function Duration({ data }) {
  return formatSeconds(secondsOf(data.step, useExecutionTime(data))) || "–";
}

/** What the step can read: what the steps before it have made, and the parameters. */
function Inputs({ data }) {
  const { group, execution } = data;
  const before = group.tasks.filter(({ next }) => next.includes(group.own.id)).map(({ name }) => name);
  const made = execution.steps
    .filter(({ name }) => before.includes(name))
    .flatMap(({ name, outputs }) => outputs.map(([output, value]) => [`${name}: ${output}`, value]));
  return [
    made.length > 0 &&
      h(
        Disclosure,
        { key: "made", id: "psm-made", title: `Made by the steps before it (${made.length})` },
        h(ValueTable, { rows: made, label: "What the steps before it have made" }),
      ),
    execution.run.parameters.length > 0 &&
      h(
        Disclosure,
        { key: "parameters", id: "psm-parameters", title: `Parameters (${execution.run.parameters.length})` },
        h(ValueTable, { rows: execution.run.parameters, label: "Parameters of the execution" }),
      ),
  ];
}

function ClearEffects({ data }) {
  const { alone, downstream } = clearEffects(data.group, data.execution);
  const rows = [
    ["Clear", alone],
    ["Clear with Downstream", downstream],
  ];
  return h(
    "section",
    { className: "psm-card psm-effects", "aria-label": "What a clear of this task does" },
    h(
      "dl",
      null,
      rows.map(([name, text]) =>
        h("div", { key: name, className: "psm-detail" }, h("dt", null, name), h("dd", null, text)),
      ),
    ),
  );
}

/** All steps in one row, each with a link to the tab of its task. */
function AllSteps({ data }) {
  const { group, execution, executionKey } = data;
  const taskIds = new Map(group.tasks.map(({ id, name }) => [name, id]));
  const chips = execution.steps.map(({ name, state }, index) => {
    const taskId = taskIds.get(name);
    const icon = h(StateIcon, { state });
    const chip =
      taskId === undefined
        ? h("span", null, icon, name)
        : h(
            TaskLink,
            { taskKey: { ...executionKey, taskId }, "aria-current": taskId === group.own.id ? "true" : undefined },
            icon,
            name,
          );
    return h("li", { key: index }, chip);
  });
  return h("ol", { className: "psm-strip", tabIndex: 0, "aria-label": "Steps of the execution" }, chips);
}
