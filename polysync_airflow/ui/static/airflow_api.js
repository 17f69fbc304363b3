// Reads task instances and their XComs from Airflow's public REST API, with the session of the person who looks at
// the page. https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
import { countOmittedSteps, readCallback, readRun, readSteps } from "./execution.js";
import { readSpending } from "./results.js";
import { mayStillStop } from "./stops.js";
import { property, readEntries, readInteger, readList, readText, readTime } from "./validation.js";
import { readNext } from "./what_next.js";

// The XComs of 500 steps with all their log lines are smaller.
const MAX_RESPONSE = 20_000_000;
const TIMEOUT = 30_000;
const ENDED_STATES = ["success", "failed", "skipped", "upstream_failed", "removed"];
// Airflow's limit of a list.
const MAX_LISTED = 100;
// Of a task with an execution, of the answer to a callback step, and of the task of a step.
const XCOMS = [
  ...["run", "steps", "outputs", "spending", "console_url"],
  ...["execution_arn", "step_name", "return_value", "step"],
];

/** Raised when Airflow refuses a request, does not answer in time, or sends something else than JSON. */
export class AirflowApiError extends Error {
  /**
   * @param {string} message what happened
   * @param {number|null} status the HTTP status; null if there was no response
   * @param {number|null} retryAfter after how many seconds the server may answer; null if it has not said so
   */
  constructor(message, status, retryAfter = null) {
    super(message);
    this.name = "AirflowApiError";
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * Reads what the tab shows.
 *
 * @param {{dagId: string, runId: string, taskId: string, mapIndex: number}} key the task instance
 * @param {AbortSignal} signal ends the requests
 * @returns the task instance, its execution or null, whether the XComs may be read, and whether all of it is final; of
 *   a mapped task without a map index, a list of its instances
 * @throws {AirflowApiError} the task instance or an XCom cannot be read
 */
export async function readTask(key, signal) {
  const timeLimit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]);
  // One after the other: what has ended has stored all of its XComs.
  const task = await readTaskOrInstances(key, timeLimit);
  if (task.instances) {
    return task;
  }
  const xcoms = await readXComs(key, XCOMS, timeLimit);
  const isCallback = xcoms.has("step_name") && !xcoms.has("run");
  const { clockOffset, forbidden, tooLarge } = xcoms;
  const record = readRun(xcoms.valueOf("run"), task);
  return {
    task,
    xcoms,
    next: xcoms.next,
    forbidden,
    tooLarge,
    execution: record === null ? null : executionOf(record, xcoms),
    callback: isCallback ? readCallback(xcoms.valueOf) : null,
    clockOffset,
    isFinal: task.isEnded && !(record && mayStillStop(task, record, Date.now() + clockOffset)),
  };
}

function executionOf(run, { valueOf, writtenAt }) {
  const steps = valueOf("steps");
  return {
    run,
    steps: readSteps(steps, valueOf("outputs"), run),
    hasStoredSteps: Array.isArray(steps),
    omittedSteps: countOmittedSteps(steps),
    spending: readSpending(valueOf("spending")),
    consoleUrl: readText(valueOf("console_url"), 4096),
    runWrittenAt: writtenAt("run"),
    stepsWrittenAt: writtenAt("steps"),
  };
}

// The paths of tasks that are known to be mapped: each request for one without a map index would be an error.
const mappedPaths = new Set();

async function readTaskOrInstances(key, signal) {
  const path = pathOf(key);
  if (mappedPaths.has(path)) {
    return readInstances(key, signal);
  }
  try {
    return await readTaskInstance(key, signal);
  } catch (error) {
    if (error.status !== 404 || key.mapIndex >= 0) {
      throw error;
    }
    const found = await readInstances(key, signal).catch(() => null);
    if (found === null) {
      throw error;
    }
    mappedPaths.add(path);
    return found;
  }
}

/** Returns the first instances of a mapped task, and how many it has. */
async function readInstances(key, signal) {
  const query = new URLSearchParams({ order_by: "map_index", limit: MAX_LISTED });
  const { body } = await send(`${unmappedPathOf(key)}/listMapped?${query}`, { signal });
  const instances = readList(property(body, "task_instances"), MAX_LISTED)
    .map((instance) => ({
      mapIndex: readInteger(property(instance, "map_index"), 0, 1_000_000_000),
      name: readText(property(instance, "rendered_map_index"), 256),
      ...taskOf(instance),
    }))
    .filter(({ mapIndex }) => mapIndex !== null);
  const total = readInteger(property(body, "total_entries"), 0, 1_000_000_000) ?? instances.length;
  return { instances, total, isFinal: instances.every(({ isEnded }) => isEnded) };
}

/** Returns the path of a task instance, without its map index. */
export function unmappedPathOf(key) {
  const [dag, run, task] = [key.dagId, key.runId, key.taskId].map(encodeURIComponent);
  // Relative to the page's base URL, which contains the path of a reverse proxy.
  return `api/v2/dags/${dag}/dagRuns/${run}/taskInstances/${task}`;
}

/** Returns the path of a task instance in the REST API. */
export function pathOf(key) {
  return key.mapIndex < 0 ? unmappedPathOf(key) : `${unmappedPathOf(key)}/${key.mapIndex}`;
}

/** Returns the page of the tab for a task instance, relative to the page's base URL. */
export function pageOf(key) {
  return `${taskPageOf(key)}/plugin/sagemaker`;
}

/** Returns the page of a task instance, which shows its log first. */
export function taskPageOf({ dagId, runId, taskId, mapIndex }) {
  const [dag, run, task] = [dagId, runId, taskId].map(encodeURIComponent);
  const mapped = mapIndex < 0 ? "" : `/mapped/${mapIndex}`;
  return `dags/${dag}/runs/${run}/tasks/${task}${mapped}`;
}

/** Returns the state of a task instance, and what else the tab uses of it. */
export async function readTaskInstance(key, signal) {
  const { body } = await send(pathOf(key), { signal });
  return taskOf(body);
}

/** Returns what the tab and the page use of a task instance as the REST API describes it. */
export function taskOf(body) {
  const state = readText(property(body, "state"), 64);
  const runAfter = property(body, "run_after");
  return {
    state,
    isEnded: ENDED_STATES.includes(state),
    startedAt: readTime(property(body, "start_date")),
    endedAt: readTime(property(body, "end_date")),
    // As Airflow has sent it: a number of milliseconds would lack the microseconds.
    runAfter: readTime(runAfter) === null ? null : runAfter,
    tryNumber: readInteger(property(body, "try_number"), 0, 1_000_000) ?? 0,
    operator: readText(property(body, "operator_name"), 256) ?? readText(property(body, "operator"), 256),
  };
}

/**
 * Reads XComs of a task instance.
 *
 * @param {string[]} names at most ten keys
 * @returns functions that say of a key whether there is such an XCom, its value, and when it was written; what comes
 *   next, if `run` is among the keys; whether they may not be read; and the keys of those that are too large
 * @throws {AirflowApiError} they cannot be read
 */
export async function readXComs(key, names, signal) {
  const query = new URLSearchParams({ run_id: key.runId, task_id: key.taskId, map_index: key.mapIndex });
  names.forEach((name) => query.append("key", name));
  const path = `polysync-sagemaker/dags/${encodeURIComponent(key.dagId)}/xcoms?${query}`;
  const { body, clockOffset } = await send(path, { signal });
  const found = new Map(readEntries(property(body, "xcoms"), names.length));
  return {
    has: (name) => found.has(name),
    valueOf: (name) => parsed(property(found.get(name), "text")),
    writtenAt: (name) => readTime(property(found.get(name), "written_at")),
    next: readNext(property(body, "next")),
    forbidden: property(body, "is_allowed") === false,
    tooLarge: names.filter((name) => property(found.get(name), "text") === null),
    clockOffset,
  };
}

/**
 * Reads XComs of a task instance, all of them whole.
 *
 * @returns as `readXComs`
 * @throws {AirflowApiError} they cannot be read, or one is too large
 */
export async function readWholeXComs(key, names, signal) {
  const xcoms = await readXComs(key, names, signal);
  if (xcoms.tooLarge.length > 0) {
    throw new AirflowApiError(`The XCom “${xcoms.tooLarge[0]}” of the task is too large.`, null);
  }
  return xcoms;
}

/** Calls a function with each item, for so many items at once, and returns the results. */
export async function mapSome(items, atOnce, work) {
  const pending = [...items.entries()];
  const results = [];
  const next = async () => {
    for (let entry = pending.shift(); entry; entry = pending.shift()) {
      results[entry[0]] = await work(entry[1]);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, next));
  return results;
}

/** Returns the value of an XCom's JSON, which may be the text of its JSON again. */
function parsed(json) {
  if (typeof json !== "string") {
    return null;
  }
  try {
    const value = JSON.parse(json);
    return typeof value === "string" && /^[[{"]/.test(value) ? (parsed(value) ?? value) : value;
  } catch {
    return null;
  }
}

/**
 * Sends a request, and returns the JSON of the response, and by how much the server's clock is ahead in milliseconds.
 *
 * @param {string} path relative to the page's base URL
 * @param {{method: string, body: any, signal: AbortSignal, timeout: number, maxLength: number}} options a GET without
 *   a body by default; `timeout` in milliseconds
 * @throws {AirflowApiError} the request was refused, or the response is none, no JSON or too long
 */
export async function send(path, options = {}) {
  const { response, text } = await request(new URL(path, document.baseURI), options);
  if (!response.ok) {
    throw new AirflowApiError(describe(response, text), response.status, retryAfterOf(response));
  }
  // The clock of this machine may differ from the server's.
  const date = Date.parse(response.headers.get("Date") ?? "");
  const clockOffset = Number.isNaN(date) || Math.abs(date - Date.now()) < 2000 ? 0 : date - Date.now();
  try {
    return { body: JSON.parse(text), clockOffset };
  } catch {
    throw new AirflowApiError("The response is not JSON.", response.status);
  }
}

async function request(url, options) {
  const { method = "GET", body, timeout = TIMEOUT, maxLength = MAX_RESPONSE } = options;
  const { signal = AbortSignal.timeout(timeout) } = options;
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  try {
    const response = await fetch(url, {
      method,
      body: JSON.stringify(body),
      credentials: "same-origin",
      headers: { Accept: "application/json", ...type },
      cache: "no-store",
      signal,
    });
    return { response, text: await readStart(response, maxLength) };
  } catch (error) {
    const isAbort = error instanceof DOMException && error.name === "AbortError";
    if (isAbort || error instanceof AirflowApiError) {
      throw error;
    }
    const timedOut = error instanceof DOMException && error.name === "TimeoutError";
    throw new AirflowApiError(
      timedOut ? `There was no response in ${timeout / 1000} s.` : "The server cannot be reached.",
      null,
    );
  }
}

/** Returns the text of a response, of which no more is loaded than it may have. */
async function readStart(response, maxLength) {
  const decoder = new TextDecoder();
  const reader = response.body?.getReader();
  let text = "";
  for (let part = await reader?.read(); part && !part.done; part = await reader.read()) {
    text += decoder.decode(part.value, { stream: true });
    if (text.length > maxLength) {
      await reader.cancel();
      throw new AirflowApiError("The response is too long.", response.status);
    }
  }
  return text + decoder.decode();
}

function retryAfterOf(response) {
  const text = response.headers.get("Retry-After") ?? "";
  return /^\d{1,3}$/.test(text) ? Number(text) : null;
}

/** Returns an HTTP status with the detail that Airflow sends as JSON. */
function describe(response, text) {
  let detail = null;
  try {
    const value = property(JSON.parse(text), "detail");
    // For invalid values, Airflow sends a list of problems.
    detail = readText(value === undefined || typeof value === "string" ? value : JSON.stringify(value), 300);
  } catch {
    // A proxy in front of Airflow sends HTML.
  }
  return `HTTP status ${response.status}${detail === null ? "" : `: ${detail}`}`;
}
