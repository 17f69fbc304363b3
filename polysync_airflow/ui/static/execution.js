// Turns the XComs of a task into what the tab shows. docs/reference/xcoms.md describes their shapes.
import {
  property,
  readChoice,
  readEntries,
  readExecutionArn,
  readInteger,
  readList,
  readNumber,
  readScalar,
  readText,
  readTime,
} from "./validation.js";
import { readBilled, readResults } from "./results.js";

export const START_OPERATOR = "PolysyncStartPipelineOperator";
const JOB_OPERATOR = "PolysyncRunJobOperator";
// Those of a group with a task for each step.
export const GROUP_OPERATOR = "PolysyncStepsExecutionOperator";
export const STEP_OPERATOR = "PolysyncPipelineStepOperator";
export const START_OPERATORS = [START_OPERATOR, JOB_OPERATOR, GROUP_OPERATOR];
const RUN_STATES = ["Running", "Waiting", "Success", "Failed", "Cancelled", "Unknown"];
// `run` says Running until AWS has stopped the execution. It says Stopping only while a task that was cleared waits for
// the end of the execution of an earlier try.
const STOPPING = "Stopping";
export const SHOWN_STATES = ["Running", STOPPING, ...RUN_STATES.slice(1)];
// NotListed and those of LEFT_OUT are states of the tab, not of the XCom.
const LEFT_OUT = ["NotTaken", "NotSelected"];
const STEP_STATES = ["NotStarted", "NotListed", ...LEFT_OUT, ...RUN_STATES];

const MAX_STEPS = 500;
const MAX_LOG_LINES = 200;
const MAX_PARAMETERS = 200;
const MAX_OUTPUTS = 100;
const MAX_VISITED = 10 * MAX_OUTPUTS;
// AWS allows 50 output parameters of a callback step.
const MAX_ANSWERS = 50;
// A shorter gap, in milliseconds, is left on the time axis.
const MIN_PAUSE = 60_000;
const SHORT_REASON = 300;
const MAX_DEPTH = 3;
const MAX_SECONDS = 10 * 366 * 24 * 3600;
const NAME = 256;
const REASON = 1300;
const MESSAGE = 8000;
const ARN = 2048;
const VALUE = 2048;
const LOG_LINE = 2000;

/**
 * Returns the record of the execution (XCom `run`); null if there is none, or if it is no record.
 *
 * Nothing runs while the task waits for capacity: before its start, `arn` is null.
 */
export function readRun(value, { isEnded }) {
  const arn = readText(property(value, "execution_arn"), ARN);
  const capacity = isEnded ? null : readCapacity(property(value, "capacity"));
  const state = readChoice(property(value, "state"), SHOWN_STATES, "Unknown");
  if ((arn === null && capacity === null) || (state === STOPPING && isEnded)) {
    return null;
  }
  return {
    arn,
    pipeline: readPipeline(property(value, "pipeline_name")),
    state: capacity === null ? state : "Waiting",
    capacity,
    status: readText(property(value, "status"), NAME),
    message: readText(property(value, "message"), MESSAGE),
    startedAt: readTime(property(value, "started_at")),
    attemptStartedAt: readTime(property(value, "attempt_started_at")),
    endedAt: readTime(property(value, "ended_at")),
    seconds: readNumber(property(value, "seconds"), 0, MAX_SECONDS),
    resumes: readInteger(property(value, "resumes"), 0, 1_000_000) ?? 0,
    billed: readBilled(value),
    addedUpAt: readTime(property(value, "added_up_at")),
    stepsNote: readText(property(value, "steps_note"), REASON),
    stop: readStop(property(value, "stop")),
    stopsWithTask: property(value, "stops_with_task") === true,
    isSelective: readList(property(value, "selected_steps"), 1).length > 0,
    mlflowExperiment: readText(property(value, "mlflow_experiment_name"), NAME),
    mlflowArn: readText(property(value, "mlflow_resource_arn"), ARN),
    parameters: readEntries(property(value, "parameters"), MAX_PARAMETERS).map(([name, text]) => [
      readText(name, NAME) ?? "",
      readScalar(text, VALUE) ?? "",
    ]),
    failedSteps: readList(property(value, "failed_steps"), MAX_STEPS)
      .map((step) => ({
        name: readText(property(step, "name"), NAME),
        reason: readText(property(step, "reason"), REASON),
      }))
      .filter((step) => step.name !== null),
  };
}

/** Returns the name of a pipeline; the end of its ARN, if the task has named it so. */
export function readPipeline(value) {
  return readText(value, ARN)?.split(":pipeline/").at(-1) ?? null;
}

/** Returns the wait for capacity; null if the task does not wait. */
function readCapacity(value) {
  const asksAt = readTime(property(value, "asks_at"));
  if (asksAt === null) {
    return null;
  }
  return { asksAt, since: readTime(property(value, "since")), reason: readText(property(value, "reason"), REASON) };
}

/** Returns the stop that the task has requested; null if it has requested none. */
function readStop(value) {
  const requestedAt = readTime(property(value, "requested_at"));
  if (requestedAt === null) {
    return null;
  }
  return {
    requestedAt,
    reason: readChoice(property(value, "reason"), ["ended_task", "timeout", "failure", "cost"], null),
    process: readChoice(property(value, "process"), ["worker", "triggerer"], null),
    result: readChoice(property(value, "result"), ["requested", "accepted", "failed"], "requested"),
    seenAt: readTime(property(value, "seen_at")),
    error: readText(property(value, "error"), REASON),
  };
}

/** Returns what a task that answers a callback step has stored; `valueOf` returns the value of an XCom by its key. */
export function readCallback(valueOf) {
  const answer = valueOf("return_value");
  return {
    arn: readExecutionArn(valueOf("execution_arn")),
    step: readText(valueOf("step_name"), NAME),
    consoleUrl: readText(valueOf("console_url"), ARN),
    answer: readEntries(answer, MAX_ANSWERS).map(([name, text]) => [
      readText(name, NAME) ?? "",
      readScalar(text, VALUE) ?? "",
    ]),
  };
}

/** Returns the steps (XCom `steps`) in their order, each with its outputs (XCom `outputs`). */
export function readSteps(steps, outputs, run) {
  // Steps of an edited XCom can all have one name, and its outputs can be large: they are read once.
  const known = new Map();
  const results = readResults(outputs);
  const read = readList(steps, MAX_STEPS)
    .map((step) => readStep(step, outputs, results, known))
    .filter((step) => step !== null);
  // Until the first list of a running execution, the task does not know what has started.
  const isListed = run.state !== "Running" || read.some((step) => step.state !== "NotStarted");
  for (const step of read) {
    if (step.state === "NotStarted") {
      step.state = stateBefore(step, isListed);
    }
    // What another execution did before this one is not on its time axis.
    if (step.reusedFrom !== null && run.startedAt !== null && step.startedAt < run.startedAt) {
      Object.assign(step, { startedAt: null, endedAt: null, seconds: null });
    }
    const { attemptStartedAt } = run;
    step.isKept = step.endedAt !== null && attemptStartedAt !== null && step.endedAt < attemptStartedAt;
  }
  return read;
}

function stateBefore(step, isListed) {
  if (step.isNotTaken) {
    return "NotTaken";
  }
  // Until the steps are listed, one that was not selected may still be reused.
  if (!isListed) {
    return "NotListed";
  }
  return step.isNotSelected ? "NotSelected" : "NotStarted";
}

/** Returns whether an execution does not run a step: its branch was not taken, or it was not selected. */
export function isLeftOut(step) {
  return LEFT_OUT.includes(step.state);
}

/** Returns whether a step has the result of the source of a selective execution. */
export function isReused(step) {
  return step.reusedFrom !== null && !step.cacheHit;
}

/** Returns how many steps the XCom has beyond those that `readSteps` returns. */
export function countOmittedSteps(steps) {
  return Array.isArray(steps) ? Math.max(0, steps.length - MAX_STEPS) : 0;
}

function readStep(value, outputs, results, known) {
  const rawName = property(value, "name");
  const name = readText(rawName, NAME);
  if (name === null) {
    return null;
  }
  const ownOutputs = property(outputs, rawName);
  if (!known.has(rawName)) {
    known.set(rawName, flatten(ownOutputs, results.get(name)?.members ?? []));
  }
  const type = readText(property(value, "type"), NAME);
  return {
    name,
    type,
    state: readChoice(property(value, "state"), ["NotStarted", ...RUN_STATES], "Unknown"),
    isNotTaken: property(value, "not_taken") === true,
    isNotSelected: property(value, "not_selected") === true,
    reusedFrom: readExecutionArn(property(value, "reused_from")),
    condition: readText(property(value, "condition"), NAME),
    status: readText(property(value, "status"), NAME),
    startedAt: readTime(property(value, "started_at")),
    endedAt: readTime(property(value, "ended_at")),
    seconds: readNumber(property(value, "seconds"), 0, MAX_SECONDS),
    attempt: readInteger(property(value, "attempt"), 1, 1_000_000),
    cacheHit: property(value, "cache_hit") === true,
    reason: readText(property(value, "reason"), REASON),
    jobArn: readText(property(value, "job_arn"), ARN),
    jobName: readText(property(value, "job_name"), NAME),
    consoleUrl: readText(property(value, "console_url"), ARN),
    logUrl: readText(property(value, "log_url"), ARN),
    logLines: readList(property(value, "log_lines"), MAX_LOG_LINES)
      .filter((line) => typeof line === "string")
      .map((line) => readText(line, LOG_LINE) ?? ""),
    outcome: type === "Condition" ? readScalar(property(ownOutputs, "outcome"), NAME) : null,
    outputs: known.get(rawName),
    results: results.get(name) ?? null,
  };
}

/** Returns the first values of nested objects and lists as pairs of a dotted name and a text, without some members. */
function flatten(root, left) {
  const found = [];
  const pending = [["", root, 0]];
  // Bounded before anything is read: others may have edited the XCom.
  for (let visited = 0; pending.length > 0 && found.length < MAX_OUTPUTS && visited < MAX_VISITED; visited += 1) {
    const [name, value, depth] = pending.pop();
    const text = readScalar(value, VALUE);
    if (text !== null || depth > MAX_DEPTH) {
      found.push([name, text ?? "…"]);
      continue;
    }
    const entries = Array.isArray(value)
      ? [...value.slice(0, MAX_OUTPUTS).entries()]
      : readEntries(value, MAX_OUTPUTS);
    for (const [key, item] of entries.reverse()) {
      if (depth === 0 && left.includes(key)) {
        continue;
      }
      const label = readText(String(key), NAME) ?? "";
      pending.push([name === "" ? label : `${name}.${label}`, item, depth + 1]);
    }
  }
  return found;
}

/**
 * Returns the time axis: its length in milliseconds, the pauses that it leaves out, and a function that returns where
 * a time is on it, from 0 to 1; null if nothing has started.
 */
export function timeAxis(run, steps, now) {
  const span = timeSpan(run, steps, now);
  if (span === null) {
    return null;
  }
  const pauses = pausesOf(run, steps, span.start);
  const place = (time) =>
    pauses.reduce((sum, { from, to }) => sum - Math.max(0, Math.min(time, to) - from), time - span.start);
  const length = Math.max(1000, place(span.end));
  return { length, pauses, position: (time) => Math.min(1, Math.max(0, place(time) / length)) };
}

/** Returns when no step ran before the last resume, as far as is known: AWS lists the last attempt of each step. */
function pausesOf({ attemptStartedAt }, steps, start) {
  const isBefore = (step) => step.startedAt !== null && step.startedAt < attemptStartedAt;
  const before = steps.filter(isBefore).sort((one, other) => one.startedAt - other.startedAt);
  const pauses = [];
  let from = start;
  const resume = attemptStartedAt === null ? [] : [{ startedAt: attemptStartedAt }];
  for (const { startedAt, endedAt } of [...before, ...resume]) {
    if (startedAt - from > MIN_PAUSE) {
      pauses.push({ from, to: startedAt });
    }
    from = Math.max(from, endedAt ?? startedAt);
  }
  return pauses;
}

/** Returns the first and the last moment of the time axis in milliseconds, or null if nothing has started. */
function timeSpan(run, steps, now) {
  const known = [run.startedAt, run.attemptStartedAt, ...steps.map((step) => step.startedAt)];
  const starts = known.filter((time) => time !== null);
  if (starts.length === 0) {
    return null;
  }
  const start = Math.min(...starts);
  const ends = [run.endedAt, ...steps.map((step) => step.endedAt)].filter((time) => time !== null);
  const isRunning = run.state === "Running" || steps.some((step) => step.state === "Running");
  const end = Math.max(start + 1000, ...ends, ...starts, isRunning ? now : start);
  return { start, end };
}

/** Returns whether a task starts an execution. */
export function isStart(task) {
  return START_OPERATORS.includes(task.operator);
}

/** Returns whether a task starts an execution of which each step has a task of its own. */
export function hasStepTasks(task) {
  return task.operator === GROUP_OPERATOR;
}

/** Returns for how long a step or an execution has run, in seconds; null if it has not started. */
export function secondsOf(item, now) {
  if (item.seconds !== null && item.state !== "Running") {
    return item.seconds;
  }
  if (item.startedAt === null) {
    return item.seconds;
  }
  const end = item.endedAt ?? (item.state === "Running" ? now : null);
  return end === null ? null : Math.max(0, (end - item.startedAt) / 1000);
}

/**
 * Returns for how long an execution has run, in seconds: from its start, and since its last resume, which is null
 * without one; each null if it is not known.
 */
export function durationsOf(run, now) {
  const since = (startedAt) => secondsOf({ ...run, startedAt, seconds: null }, now);
  return {
    total: since(run.startedAt) ?? run.seconds,
    sinceResume: run.resumes > 0 ? since(run.attemptStartedAt) : null,
  };
}

/** Returns when somebody has last observed an execution whose task has ended, in milliseconds; null if not known. */
export function lastObserved(task, { run, runWrittenAt, stepsWrittenAt = null }) {
  const times = [runWrittenAt, stepsWrittenAt, task.endedAt, run.stop?.requestedAt, run.stop?.seenAt];
  return Math.max(...times.map((time) => time ?? 0)) || null;
}

/**
 * Returns by how many milliseconds AWS's clock is ahead of Airflow's, at least: nothing that AWS has reported is
 * later than the XCom that says so.
 */
export function clockAhead({ run, steps, runWrittenAt, stepsWrittenAt }) {
  const ahead = (times, writtenAt) => times.map((time) => (time ?? 0) - (writtenAt ?? Infinity));
  return Math.max(
    0,
    ...ahead([run.startedAt, run.attemptStartedAt], runWrittenAt),
    ...ahead(steps.flatMap((step) => [step.startedAt, step.endedAt]), stepsWrittenAt),
  );
}

/** Returns whether a step, or the whole execution, had attempts before the last one, which AWS does not list. */
export function hasEarlierAttempts({ attempt = null, resumes = 0 }) {
  return attempt > 1 || resumes > 0;
}

/** Returns the names of the steps that have failed, and the reason of the first that has one, in one short text. */
export function failureOf({ state, failedSteps }, steps) {
  const listed = steps.filter((step) => step.state === "Failed");
  const failed = listed.length > 0 ? listed : failedSteps;
  if (state !== "Failed" || failed.length === 0) {
    return null;
  }
  const first = failed.find(({ reason }) => reason !== null) ?? failed[0];
  return { name: first.name, more: failed.length - 1, reason: readText(first.reason, SHORT_REASON) };
}

/** Returns how many branches of conditions were not taken. Those inside of such a branch do not count. */
export function countBranchesNotTaken(steps) {
  const left = steps.filter((step) => step.isNotTaken);
  const names = new Set(left.map((step) => step.name));
  return new Set(left.map((step) => step.condition).filter((condition) => !names.has(condition))).size;
}

/** Returns how many steps are in each state, by state. */
export function countStates(steps) {
  const counts = new Map(STEP_STATES.map((state) => [state, 0]));
  for (const step of steps) {
    counts.set(step.state, counts.get(step.state) + 1);
  }
  return counts;
}
