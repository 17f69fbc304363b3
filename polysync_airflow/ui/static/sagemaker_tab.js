// The tab "SageMaker" of a task instance.
import { Actions, ChoiceLeft } from "./actions.js";
import { CallbackStep } from "./callback_step.js";
import {
  Arn,
  Button,
  ConsoleLink,
  Disclosure,
  Duration,
  h,
  Notice,
  Stat,
  StateBadge,
  ValueTable,
} from "./components.js";
import { Billed, Compared, Cost, EarlierRuns, Spending } from "./comparison.js";
import {
  countBranchesNotTaken,
  countStates,
  durationsOf,
  failureOf,
  hasEarlierAttempts,
  isLeftOut,
  isReused,
  isStart,
} from "./execution.js";
import { formatSeconds, formatTime } from "./format.js";
import { useEarlierRuns } from "./history.js";
import { Instances } from "./mapped_tasks.js";
import { NoExecution, STOP_OPERATOR } from "./no_execution.js";
import { ErrorNotice, Loading, NoTask, OldHeader, TooLarge } from "./notices.js";
import { lastWrite, useExecutionTime, useNow, useTask } from "./polling.js";
import { executionValues } from "./results.js";
import { StepTask } from "./step_task.js";
import { Timeline } from "./steps.js";
import { shownState } from "./stops.js";
import { EndOfLog } from "./task_log.js";
import { Next } from "./what_next.js";

const { Fragment, useState } = globalThis.React;

const NOTE_TITLES = [
  ["Property file ", "A property file is missing"],
  ["The definition declares no property file ", "A property file is missing"],
  ["The steps of the execution could not be listed", "Steps are missing"],
  ["The XCom steps has the first ", "Steps are missing"],
  ["The log of step ", "A log is missing"],
  ["The cost ", "The cost is not complete"],
  ["The training jobs of step ", "The cost is not complete"],
];

/** The tab of the task instance that is in the path of the page. */
export function SageMakerTab({ dagId, runId, taskId, mapIndex }) {
  const index = /^\d{1,9}$/.test(mapIndex ?? "") ? Number(mapIndex) : -1;
  const [state, refresh, refreshes] = useTask({ dagId, runId, taskId, mapIndex: index });
  if (state.error?.status === 404) {
    return h(NoTask, { state, refresh });
  }
  return h(
    Fragment,
    null,
    state.error && h(ErrorNotice, { state, refresh }),
    state.data ? h(Content, { state, refresh, refreshes }) : !state.error && h(Loading),
  );
}

function Content({ state, refresh, refreshes }) {
  if (!state.data.instances) {
    return h(TaskContent, { state, refresh, refreshes });
  }
  const action = h(Button, { onClick: refresh, isDisabled: state.isReading }, "Refresh");
  return h(Instances, { keyText: state.keyText, ...state.data, action });
}

function TaskContent({ state, refresh, refreshes }) {
  const { task, execution, callback, forbidden, tooLarge } = state.data;
  const [cleared, setCleared] = useState(null);
  const earlier = useEarlierRuns(state, task.operator !== STOP_OPERATOR && !forbidden, refreshes);
  if (forbidden) {
    const text =
      "You may see this task, but not its XComs. The tab shows only what the task has stored there.";
    return h(Notice, { kind: "warning", title: "No permission to read XComs" }, text);
  }
  if (tooLarge.includes("run")) {
    return h(TooLarge);
  }
  const action = h(Button, { onClick: refresh, isDisabled: state.isReading }, "Refresh");
  if (callback !== null) {
    return h(CallbackStep, { task, callback, action });
  }
  if (state.data.step) {
    return h(StepTask, { state, refresh });
  }
  const oldHeader = cleared?.keyText === state.keyText && h(OldHeader, { key: "old", state: cleared.state });
  if (execution === null) {
    const mayHaveChoice = isStart(task) && task.isEnded;
    const { next } = state.data;
    return [
      oldHeader,
      h(NoExecution, { key: "none", keyText: state.keyText, task, next, action, costs: earlier.costs }),
      // The last try may have failed before it has read the choice.
      mayHaveChoice && h(ChoiceLeft, { key: `choice ${state.keyText}`, keyText: state.keyText, refresh, refreshes }),
    ];
  }
  const onClear = () => setCleared({ keyText: state.keyText, state: task.state });
  const notice = lastKnownState(state.data);
  return [
    oldHeader,
    h(Header, { key: "header", state, refresh, earlier }),
    execution.run.capacity === null
      ? h(End, { key: "end", keyText: state.keyText, task, ...execution })
      : h(CapacityWait, { key: "wait", capacity: execution.run.capacity }),
    h(Actions, { key: `actions ${state.keyText} ${task.tryNumber}`, state, refresh, refreshes, onClear, notice }),
    h(StepsNotice, { key: "note", execution, task, tooLarge }),
    execution.steps.length > 0 && h(Timeline, { key: "steps", data: state.data, last: earlier.last }),
    task.isEnded && h(EarlierRuns, { key: "earlier", execution, earlier }),
  ];
}

function Header({ state, refresh, earlier }) {
  const { last } = earlier;
  const { run, steps, consoleUrl } = state.data.execution;
  const { task, isFinal } = state.data;
  const isPartial = [run, ...steps].some(hasEarlierAttempts);
  const values = executionValues(state.data.execution);
  const isOfTask = task.operator !== STOP_OPERATOR && run.state !== "Stopping" && run.arn !== null;
  return h(
    "section",
    { className: "psm-card", "aria-label": "Execution" },
    h(
      "div",
      { className: "psm-title" },
      h("span", { role: "status" }, h(StateBadge, { state: shownState(task, run, isFinal), isLarge: true })),
      h("h2", { className: "psm-name" }, run.pipeline ?? "Pipeline execution"),
      h("span", { className: "psm-spacer" }),
      consoleUrl && h(ConsoleLink, { url: consoleUrl, className: "psm-button" }, "SageMaker Console"),
      h(Button, { onClick: refresh, isDisabled: state.isReading }, "Refresh"),
    ),
    h(Next, { next: state.data.next }),
    h(
      "dl",
      { className: "psm-stats" },
      run.status && h(Stat, { label: "AWS status" }, run.status),
      h(
        Stat,
        { label: "Duration" },
        h(DurationNow, { data: state.data }),
        last && h(Compared, { now: values.duration, before: last.duration }),
      ),
      h(Billed, { billed: run.billed, before: values.billable === null ? null : (last?.billable ?? null), isPartial }),
      h(CostNow, { data: state.data, earlier: earlier.costs }),
      steps.length > 0 && h(Stat, { label: "Steps" }, describeSteps(run, steps)),
      run.startedAt !== null && h(Stat, { label: "Started" }, formatTime(run.startedAt)),
      run.endedAt !== null && h(Stat, { label: "Ended" }, formatTime(run.endedAt)),
      run.mlflowExperiment && h(Stat, { label: "MLflow experiment" }, run.mlflowExperiment),
      run.resumes > 0 && h(Stat, { label: "Resumed" }, describeResumes(run)),
      // Airflow deletes the XComs of a task when its next try starts.
      task.tryNumber > 1 &&
        h(Stat, { label: "Try of the task" }, `${task.tryNumber}; the data of earlier tries are not kept`),
    ),
    run.arn && h("div", { className: "psm-line" }, h(Arn, { arn: run.arn, label: "Copy the ARN of the execution" })),
    run.mlflowArn &&
      h("div", { className: "psm-line" }, h(Arn, { arn: run.mlflowArn, label: "Copy the ARN of the MLflow app" })),
    h(
      "div",
      { className: "psm-footer" },
      run.parameters.length > 0
        ? h(
            Disclosure,
            { id: "psm-parameters", title: `Parameters (${run.parameters.length})` },
            h(ValueTable, { rows: run.parameters, label: "Parameters of the execution" }),
          )
        : h("span", { className: "psm-muted" }, isOfTask ? "No parameters were sent." : ""),
      h(Freshness, { state }),
    ),
  );
}

function DurationNow({ data }) {
  const { run } = data.execution;
  return h(Duration, { run, durations: durationsOf(run, useExecutionTime(data)) });
}

/** What the execution has cost until now. Until somebody has added up, that is the last estimate, with its time. */
function CostNow({ data, earlier }) {
  const now = useExecutionTime(data);
  const { run, spending } = data.execution;
  const isRunning = !data.task.isEnded && run.state === "Running";
  const cost = isRunning ? spending : (run.billed.cost ?? spending);
  const isSpending = cost !== null && "maxCost" in cost;
  return [
    h(Cost, { key: "cost", cost: isSpending ? null : cost, earlier }),
    isSpending && h(Spending, { key: "spending", spending: cost, now: isRunning ? now : null }),
  ];
}

function describeResumes({ resumes, attemptStartedAt }) {
  const times = resumes === 1 ? "once" : `${resumes} times`;
  return attemptStartedAt === null ? times : `${times}, at ${formatTime(attemptStartedAt)}`;
}

function describeSteps(run, steps) {
  const counts = countStates(steps);
  if (counts.get("NotListed") > 0) {
    return `${steps.length}, none listed yet`;
  }
  const isRunning = run.state === "Running";
  const total = isRunning ? ` of ${steps.filter((step) => !isLeftOut(step)).length}` : "";
  const reused = steps.filter(isReused);
  const ofThem = reused.length > 0 ? ` (${reused.length} reused)` : "";
  const branches = countBranchesNotTaken(steps);
  const parts = [
    [counts.get("Running"), "running"],
    [counts.get("Failed"), "failed"],
    [counts.get("Cancelled"), "cancelled"],
    [isRunning ? 0 : counts.get("NotStarted"), "not started"],
    [counts.get("NotSelected"), "not selected"],
    [branches, branches === 1 ? "branch not taken" : "branches not taken"],
  ];
  const others = parts.filter(([number]) => number > 0).map(([number, label]) => `${number} ${label}`);
  return [`${counts.get("Success")}${total} succeeded${ofThem}`, ...others].join(", ");
}

function Freshness({ state }) {
  const now = useNow(!state.data.isFinal);
  const writtenAt = lastWrite(state.data.execution);
  const ago = (milliseconds) => formatSeconds(Math.max(1, milliseconds / 1000));
  if (state.data.isFinal) {
    return h("span", { className: "psm-muted" }, "The task has ended.");
  }
  const written =
    writtenAt === null ? "" : `; stored by the task ${ago(now + state.data.clockOffset - writtenAt)} ago`;
  return h("span", { className: "psm-muted" }, `Updated ${ago(now - state.readAt)} ago${written}`);
}

/** Returns a notice of a stop, or of an end that nobody has seen; null if there is neither. */
function lastKnownState({ task, isFinal, execution: { run } }) {
  const shown = shownState(task, run, isFinal);
  if (run.state !== "Running" || shown === "Running") {
    return null;
  }
  const { stop } = run;
  const now = "Its present state is in the AWS console.";
  const asked = describeStop(run);
  if (stop?.result === "failed") {
    const text = `${asked} The execution may still be running: stop it in the AWS console.`;
    return h(Notice, { kind: "error", title: "The stop failed" }, text, h(Reason, { text: stop.error }));
  }
  if (shown === "Unknown") {
    const text = `The execution was running when the task ended. ${now}`;
    return h(Notice, { kind: "warning", title: "This is the last known state" }, text);
  }
  if (!isFinal) {
    return h(Notice, { kind: "info", title: "The execution is being stopped" }, asked);
  }
  const answer = stop?.result === "requested" ? "What AWS has answered is not known." : "AWS has accepted it.";
  const seenAt = stop?.seenAt ?? null;
  const seen =
    seenAt === null
      ? ""
      : ` The execution was last seen at ${formatTime(seenAt)} (${run.status}); nobody has looked since.`;
  return h(
    Notice,
    { kind: "warning", title: "How the stop ended is not known" },
    `${asked} ${answer}${seen} ${now}`,
    h(Reason, { text: stop?.error ?? null }),
  );
}

function describeStop({ stop, status }) {
  if (stop !== null) {
    return describeRequest(stop);
  }
  return ["Stopping", "Stopped"].includes(status)
    ? "Somebody has stopped it in AWS, or Airflow has after the death of the task's process."
    : "The task was ended or cleared, so its execution is stopped.";
}

const STOP_REASONS = {
  ended_task: ", because somebody, or the DAG run, ended the task",
  timeout: ", because the time of the task was up",
  failure: ", because the task failed",
  cost: ", because the task had spent what it may",
};

function describeRequest({ requestedAt, reason, process }) {
  const by = process === null ? "" : ` by the ${process}`;
  return `The stop was requested${by} at ${formatTime(requestedAt)}${STOP_REASONS[reason] ?? ""}.`;
}

/** When AWS is asked again, and how to give up, is in what comes next. */
function CapacityWait({ capacity: { since, reason } }) {
  const text = `${since === null ? "" : `Since ${formatTime(since)}. `}Nothing runs meanwhile.`;
  return h(
    Notice,
    { kind: "warning", title: "Waiting for capacity" },
    h("p", null, text),
    // aws/responses.py writes the advice behind what AWS has said.
    reason?.split(" -- ").map((part, index) => h("p", { key: index, className: "psm-reason" }, part)),
  );
}

function Reason({ text }) {
  return text !== null && h("div", { className: "psm-reason" }, text);
}

function End({ keyText, task, run, steps }) {
  const failure = failureOf(run, steps);
  const isStopped = run.state === "Cancelled" || (run.stop !== null && run.state !== "Running");
  if (run.state === "Success" && task.state === "failed" && !isStopped) {
    const end = h(EndOfLog, { keyText, tryNumber: task.tryNumber });
    return h(Notice, { kind: "error", title: "The execution succeeded, but the task failed" }, end);
  }
  if (run.message === null && failure === null && !isStopped) {
    return null;
  }
  const kind = { Failed: "error", Cancelled: "warning", Unknown: "warning" }[run.state] ?? "info";
  const titles = {
    Failed: "The execution failed",
    Cancelled: "The execution was stopped",
    Success: isStopped ? "The execution succeeded before its stop" : "Message",
  };
  const more = failure?.more > 0 ? ` and ${failure.more} more ${failure.more === 1 ? "step" : "steps"}` : "";
  const failed = failure === null ? "" : `: step ${failure.name}${more}`;
  return h(
    Notice,
    { kind, title: `${titles[run.state] ?? "Message"}${failed}` },
    isStopped && h("div", null, describeStop(run)),
    failure !== null && h(Reason, { text: failure.reason ?? "AWS has given no reason." }),
    run.message !== failure?.reason && h(Reason, { text: run.message }),
  );
}

function StepsNotice({ execution, task, tooLarge }) {
  const { run, steps, omittedSteps } = execution;
  if (tooLarge.length > 0) {
    return h(Notice, { kind: "warning" }, `Some XComs are too large, and not shown: ${tooLarge.join(", ")}.`);
  }
  if (omittedSteps > 0) {
    return h(
      Notice,
      { kind: "info" },
      `The tab shows ${steps.length} steps. ${omittedSteps} more are in the XCom "steps".`,
    );
  }
  if (run.stepsNote !== null) {
    return h(
      Notice,
      { kind: "warning", title: titleOfNote(run.stepsNote, steps.length > 0) },
      run.stepsNote,
    );
  }
  if (steps.length > 0 || ["Stopping", "Waiting"].includes(run.state)) {
    return null;
  }
  return h(Notice, { kind: "info" }, whyNoSteps(execution, task));
}

/** Returns what is missing: the note begins with it. operators/results.py has the texts. */
function titleOfNote(note, hasSteps) {
  if (!hasSteps) {
    return "No steps";
  }
  const [, title] = NOTE_TITLES.find(([beginning]) => note.startsWith(beginning)) ?? [null, "Outputs are missing"];
  return title;
}

function whyNoSteps({ run, hasStoredSteps }, task) {
  if (task.operator === STOP_OPERATOR) {
    return "This task stops the execution. Its steps are in the tab of the task that started it.";
  }
  if (!hasStoredSteps) {
    return task.isEnded
      ? "The task has stored no steps: it ended without waiting for the execution."
      : "The task has not stored the steps yet.";
  }
  return run.state === "Running"
    ? "The steps appear as soon as they begin: the task could not read the pipeline's definition."
    : "AWS has listed no steps.";
}
