// Reads the executions of all DAGs that the person who looks may see: a page of task instances, then their XComs,
// DAG runs and map indexes. Airflow filters task instances by permission, operator, state, DAG and start. What only an
// XCom says is read for each task, and compared here.
import { AirflowApiError, mapSome, readWholeXComs, send, taskOf } from "./airflow_api.js";
import {
  clockAhead,
  countStates,
  durationsOf,
  isLeftOut,
  lastObserved,
  readPipeline,
  readRun,
  readSteps,
  START_OPERATORS,
} from "./execution.js";
import { needsXComs, startOf } from "./execution_filters.js";
import { mayStillStop, shownState } from "./stops.js";
import { property, readInteger, readList, readText, readTime } from "./validation.js";

const PAGE = 25;
// So many tasks are compared with a filter that only XComs answer, until a page is full.
const MAX_COMPARED = 300;
// Airflow's limit of a list.
const MAX_LISTED = 100;
const AT_ONCE = 5;
const TIMEOUT = 30_000;
const MAX_REMEMBERED = 2_000;
const MAX_PARAMETER_TEXT = 4_000;
const ID = 512;
const NAME = 256;
const ERROR = 2_000;
// Before that, nothing has started. What has never started has no time at all.
const EVER = "2000-01-01T00:00:00Z";

// A deferred task is scheduled and queued again before its end.
const AT_WORK = ["running", "deferred", "queued", "scheduled", "restarting", "up_for_reschedule"];
const FAILED = ["failed", "up_for_retry"];
const ENDED = ["success", "failed", "up_for_retry", "skipped", "removed"];
// In which states of its task an execution may have a state; of each list, the newest come first.
const TASK_STATES = {
  "": [AT_WORK, ENDED],
  Running: [AT_WORK],
  Stopping: [AT_WORK, ENDED],
  Waiting: [AT_WORK],
  Success: [["success"]],
  Failed: [FAILED],
  Cancelled: [["failed", "up_for_retry", "skipped"]],
  Unknown: [AT_WORK, ENDED],
};

/**
 * Returns a page of executions: those at work first, of the others the newest first.
 *
 * @param filters what `readFilters` returns
 * @param {Map} memory what earlier calls have read
 * @param {AbortSignal} signal ends the requests
 * @param show called with what is known so far
 * @returns the rows, the offset of the next page or null, how many tasks there are and how many were compared
 * @throws {AirflowApiError} the task instances cannot be read
 */
export async function readExecutions(filters, memory, signal, show) {
  if (memory.size > MAX_REMEMBERED) {
    memory.clear();
  }
  const isCompared = needsXComs(filters);
  const end = filters.offset + (isCompared ? MAX_COMPARED : PAGE);
  // Most tasks say themselves which pipeline they have.
  const size = filters.pipeline === "" ? PAGE : MAX_LISTED;
  const found = { rows: [], total: 0, compared: 0, next: null, failures: [], clockOffset: 0, isFinal: false };
  let rows = [];
  const publish = () => {
    const shown = rows.filter((row) => isShown(row, filters));
    return { ...found, rows: withRemembered(shown, memory), isFinal: shown.every(isFinal) };
  };
  const inform = () => show(publish());
  for (let offset = filters.offset; offset < end; offset += size) {
    const timeLimit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]);
    const listed = await listTasks(filters, offset, size, timeLimit);
    const added = listed.tasks.map((task) => ({ ...task, detail: recall(memory, task) }));
    rows = [...rows, ...added];
    Object.assign(found, { total: listed.total, clockOffset: listed.clockOffset, compared: rows.length });
    found.next = offset + size < listed.total ? offset + size : null;
    inform();
    const attempt = attemptWith(found.failures, signal);
    await Promise.all([
      readStarters(isCompared ? [] : added, memory, attempt, timeLimit).then(inform),
      mapSome(added, AT_ONCE, (row) => readDetail(row, filters, memory, attempt, timeLimit).then(inform)),
    ]);
    const { rows: shown } = publish();
    await Promise.all([readStarters, readMapped].map((read) => read(shown, memory, attempt, timeLimit)));
    if (found.next === null || shown.length >= PAGE) {
      break;
    }
  }
  const last = publish();
  return { ...last, rows: last.rows.map((row) => ({ ...row, isRead: true })) };
}

/** Returns rows with what is known of their DAG runs and, for the first row of a mapped task, of its map indexes. */
function withRemembered(rows, memory) {
  const mapped = new Set();
  return rows.map((row) => {
    const id = idOfMapped(row.key);
    const isFirst = row.key.mapIndex >= 0 && !mapped.has(id);
    mapped.add(id);
    return { ...row, starter: memory.get(idOfRun(row.key)) ?? null, mapped: (isFirst && memory.get(id)) || null };
  });
}

function idOfRun({ dagId, runId }) {
  return JSON.stringify(["run", dagId, runId]);
}

function idOfMapped({ dagId, runId, taskId }) {
  return JSON.stringify(["mapped", dagId, runId, taskId]);
}

/**
 * Returns the state of the execution of a row; null if it is not known. If there is none, "Failed" if the task has
 * failed, otherwise "None".
 */
export function stateOf({ task, detail }) {
  if (detail === null || detail.forbidden) {
    return null;
  }
  if (detail.run === null) {
    return FAILED.includes(task.state) ? "Failed" : "None";
  }
  return shownState(task, detail.run, isFinal({ task, detail }));
}

/** Returns whether the task of an execution has ended before it, so that nobody may have seen its end. */
function isLastKnown({ task, detail }) {
  return task.isEnded && detail?.run?.state === "Running";
}

/** Returns what to add to a state that nobody has seen change; null if there is nothing. */
export function remarkOf(row) {
  if (!isLastKnown(row)) {
    return null;
  }
  if (row.detail.run.stop?.result === "failed") {
    return "stop failed";
  }
  if (stateOf(row) === "Unknown") {
    return "was running";
  }
  return isFinal(row) ? "end not seen" : null;
}

/** Returns the pipeline of a row: that of the execution, otherwise that of the task. */
export function pipelineOf({ detail, pipeline }) {
  return detail?.run?.pipeline ?? pipeline;
}

/** Returns what `durationsOf` returns of the execution of a row, which has one. */
export function durationsOfRow(row, now) {
  const { task, detail } = row;
  const execution = { ...detail, steps: [], stepsWrittenAt: null };
  const time = isLastKnown(row) ? (lastObserved(task, execution) ?? now) : now;
  return durationsOf(detail.run, time + clockAhead(execution));
}

function isShown(row, { state, pipeline, parameter }) {
  // Airflow gives a start to skipped tasks, too.
  if (row.task.state === "skipped" && !row.detail?.run) {
    return false;
  }
  const hasParameter = parameter === "" || row.detail?.run?.parameterText.includes(parameter.toLowerCase());
  return (state === "" || stateOf(row) === state) && hasPipeline(row, pipeline) && Boolean(hasParameter);
}

function hasPipeline(row, text) {
  return text === "" || (pipelineOf(row) ?? "").toLowerCase().includes(text.toLowerCase());
}

async function listTasks(filters, offset, size, signal) {
  const tasks = [];
  let total = 0;
  let clockOffset = 0;
  for (const states of TASK_STATES[filters.state]) {
    const free = size - tasks.length;
    // Also if the page is full, to count the others.
    const query = queryOf(filters, states, Math.max(0, offset - total), Math.max(1, free));
    const listed = await send(`api/v2/dags/~/dagRuns/~/taskInstances?${query}`, { signal });
    const found = readList(property(listed.body, "task_instances"), size).map(readTask);
    tasks.push(...found.filter((task) => task !== null).slice(0, free));
    total += readInteger(property(listed.body, "total_entries"), 0, Number.MAX_SAFE_INTEGER) ?? found.length;
    clockOffset = listed.clockOffset;
  }
  return { tasks, total, clockOffset };
}

function queryOf({ dag, since }, states, offset, limit) {
  return new URLSearchParams([
    ...START_OPERATORS.map((operator) => ["operator", operator]),
    ...states.map((state) => ["state", state]),
    ...(dag === "" ? [] : [["dag_id_pattern", dag]]),
    ["start_date_gte", startOf(since) ?? EVER],
    ["order_by", "-start_date"],
    ["limit", limit],
    ["offset", offset],
  ]);
}

function readTask(body) {
  const key = keyOf(body);
  const pipeline = readPipeline(property(property(body, "rendered_fields"), "pipeline_name"));
  const row = { id: JSON.stringify(key), key, task: taskOf(body), pipeline };
  return Object.values(key).includes(null) ? null : row;
}

function keyOf(body) {
  const [dagId, runId, taskId] = ["dag_id", "dag_run_id", "task_id"].map((name) => readText(property(body, name), ID));
  return { dagId, runId, taskId, mapIndex: readInteger(property(body, "map_index"), 0, 2 ** 31) ?? -1 };
}

/** Returns what was read of the same try of a task. */
function recall(memory, { id, task }) {
  const known = memory.get(id);
  return known?.tryNumber === task.tryNumber ? known : null;
}

/** Returns a function that calls another one, and keeps its error, unless the session has ended. */
function attemptWith(failures, signal) {
  return async (read) => {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof AirflowApiError) || error.status === 401 || signal.aborted) {
        throw error;
      }
      failures.push(error);
      return null;
    }
  };
}

/** Returns the time in which the DAG runs of these rows are, as parameters of a request. */
function spanOf(rows) {
  const times = rows.map(({ task }) => task.runAfter).sort((one, other) => readTime(one) - readTime(other));
  return { run_after_gte: times[0], run_after_lte: times.at(-1) };
}

function detailOf({ task, detail }, found) {
  const steps = detail?.steps ?? null;
  return { ...found, steps, isNew: true, tryNumber: task.tryNumber, taskState: task.state };
}

/** Returns whether what was read of a row stays as it is. */
function isFinal({ task, detail }) {
  return detail !== null && detail.isFinal && detail.taskState === task.state;
}

async function readDetail(row, filters, memory, attempt, signal) {
  const { id, key, task } = row;
  if (row.detail === null && row.pipeline !== null && !hasPipeline(row, filters.pipeline)) {
    return;
  }
  if (!isFinal(row)) {
    const found = await attempt(() => readWholeXComs(key, ["run", "error"], signal));
    if (found === null) {
      return;
    }
    const run = shorten(readRun(found.valueOf("run"), task));
    const hasEnd = task.isEnded && !(run && mayStillStop(task, run, Date.now() + found.clockOffset));
    const error = readText(found.valueOf("error"), ERROR);
    const { forbidden, next } = found;
    row.detail = detailOf(row, { run, runWrittenAt: found.writtenAt("run"), error, forbidden, isFinal: hasEnd, next });
  }
  // A task that has ended without waiting has stored none.
  const mayHaveSteps = row.detail.run?.arn && (row.detail.run.status !== null || !task.isEnded);
  if (mayHaveSteps && isShown(row, filters) && (row.detail.isNew || row.detail.steps === null)) {
    const listed = await attempt(() => readWholeXComs(key, ["steps"], signal));
    const steps = listed === null ? row.detail.steps : countSteps(listed.valueOf("steps"), row.detail.run);
    row.detail = { ...row.detail, steps, isNew: listed === null };
  }
  memory.set(id, row.detail);
}

/** Returns what the page shows of an execution: memory keeps that of many. */
function shorten(run) {
  if (run === null) {
    return null;
  }
  const { failedSteps, parameters } = run;
  const text = parameters.map((parameter) => parameter.join("=")).join("\n");
  return {
    ...run,
    parameters: [],
    parameterText: text.slice(0, MAX_PARAMETER_TEXT).toLowerCase(),
    message: null,
    failedSteps: failedSteps.slice(0, 1),
    failures: failedSteps.length,
  };
}

function countSteps(value, run) {
  const steps = readSteps(value, null, run).filter((step) => !isLeftOut(step));
  return { done: countStates(steps).get("Success"), total: steps.length };
}

/** Reads who or what has started the DAG runs of these rows. */
async function readStarters(rows, memory, attempt, signal) {
  const missing = rows.filter(({ key, task }) => !memory.has(idOfRun(key)) && task.runAfter !== null);
  const remember = (run) => {
    const [dagId, runId] = ["dag_id", "dag_run_id"].map((name) => readText(property(run, name), ID));
    const [type, user, by] = ["run_type", "triggering_user_name", "triggered_by"].map((name) =>
      readText(property(run, name), NAME),
    );
    memory.set(idOfRun({ dagId, runId }), { type, user, by });
  };
  if (missing.length > 0) {
    const dagIds = [...new Set(missing.map(({ key }) => key.dagId))];
    const body = { dag_ids: dagIds, page_limit: MAX_LISTED, ...spanOf(missing) };
    const listed = await attempt(() => send("api/v2/dags/~/dagRuns/list", { method: "POST", body, signal }));
    readList(property(listed?.body, "dag_runs"), MAX_LISTED).forEach(remember);
    // Other runs of the same time may have filled the list.
    const left = new Map(missing.filter(({ key }) => !memory.has(idOfRun(key))).map(({ key }) => [idOfRun(key), key]));
    await mapSome(listed === null ? [] : [...left.values()], AT_ONCE, async ({ dagId, runId }) => {
      const path = `api/v2/dags/${encodeURIComponent(dagId)}/dagRuns/${encodeURIComponent(runId)}`;
      remember((await attempt(() => send(path, { signal })))?.body);
    });
  }
}

/** Counts the map indexes of mapped tasks by the state of the task instance. */
async function readMapped(rows, memory, attempt, signal) {
  const mapped = rows.filter(({ key }) => key.mapIndex >= 0);
  const asked = mapped.filter(({ key, task }) => !memory.get(idOfMapped(key))?.isFinal || !task.isEnded);
  const keys = new Map(asked.map(({ key }) => [idOfMapped(key), key]));
  await mapSome([...keys], AT_ONCE, async ([id, { dagId, runId, taskId }]) => {
    const query = new URLSearchParams({ task_id: taskId, limit: MAX_LISTED });
    const path = `api/v2/dags/${encodeURIComponent(dagId)}/dagRuns/${encodeURIComponent(runId)}/taskInstances`;
    const listed = await attempt(() => send(`${path}?${query}`, { signal }));
    if (listed !== null) {
      memory.set(id, countMapped(listed.body));
    }
  });
}

function countMapped(body) {
  const tasks = readList(property(body, "task_instances"), MAX_LISTED).map(taskOf);
  const total = readInteger(property(body, "total_entries"), 0, Number.MAX_SAFE_INTEGER) ?? tasks.length;
  const count = (...names) => tasks.filter(({ state }) => names.includes(state)).length;
  const counts = [
    [count(...AT_WORK), "at work"],
    [count("success"), "succeeded"],
    [count(...FAILED), "failed"],
  ];
  const isFinal = tasks.every(({ isEnded }) => isEnded);
  return { total, counted: tasks.length, counts: counts.filter(([number]) => number > 0), isFinal };
}
