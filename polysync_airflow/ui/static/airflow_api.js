// Reads a task instance and its XComs from Airflow's public REST API, with the session of the person who looks at
// the page. https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
import { countOmittedSteps, mayStillStop, readRun, readSteps } from "./execution.js";
import { property, readInteger, readText, readTime } from "./validation.js";

// The XComs of 500 steps with all their log lines are smaller.
const MAX_RESPONSE = 20_000_000;
const TIMEOUT = 30_000;
const ENDED_STATES = ["success", "failed", "skipped", "upstream_failed", "removed"];

/** Raised when Airflow refuses a request, does not answer in time, or sends something else than JSON. */
export class AirflowApiError extends Error {
  /**
   * @param {string} message what happened
   * @param {number|null} status the HTTP status; null if there was no response
   */
  constructor(message, status) {
    super(message);
    this.name = "AirflowApiError";
    this.status = status;
  }
}

/**
 * Reads what the tab shows.
 *
 * @param {{dagId: string, runId: string, taskId: string, mapIndex: number}} key the task instance
 * @param {AbortSignal} signal ends the requests
 * @returns the task instance, its execution or null, whether the XComs may be read, and whether all of it is final
 * @throws {AirflowApiError} the task instance or an XCom cannot be read
 */
export async function readTask(key, signal) {
  const timeLimit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]);
  let [task, run] = await Promise.all([readTaskInstance(key, timeLimit), readXCom(key, "run", timeLimit)]);
  if (task.isEnded && readRun(run.value)?.state === "Running") {
    // The task may have ended between the two reads.
    run = await readXCom(key, "run", timeLimit);
  }
  const record = readRun(run.value);
  const found = { task, forbidden: run.forbidden, execution: null, clockOffset: run.clockOffset };
  found.isFinal = task.isEnded && !(record && mayStillStop(task, record, Date.now() + run.clockOffset));
  if (record === null) {
    return found;
  }
  const [steps, outputs, url] = await Promise.all(
    ["steps", "outputs", "console_url"].map((name) => readXCom(key, name, timeLimit)),
  );
  found.execution = {
    run: record,
    steps: readSteps(steps.value, outputs.value, record),
    hasStoredSteps: Array.isArray(steps.value),
    omittedSteps: countOmittedSteps(steps.value),
    consoleUrl: readText(url.value, 4096),
    runWrittenAt: run.writtenAt,
    stepsWrittenAt: steps.writtenAt,
  };
  return found;
}

/** Returns the path of a task instance, without its map index. */
function unmappedPathOf(key) {
  const [dag, run, task] = [key.dagId, key.runId, key.taskId].map(encodeURIComponent);
  // Relative to the page's base URL, which contains the path of a reverse proxy.
  return `api/v2/dags/${dag}/dagRuns/${run}/taskInstances/${task}`;
}

/** Returns the path of a task instance in the REST API. */
export function pathOf(key) {
  return key.mapIndex < 0 ? unmappedPathOf(key) : `${unmappedPathOf(key)}/${key.mapIndex}`;
}

/** Returns the state of a task instance, and what else the tab uses of it. */
export async function readTaskInstance(key, signal) {
  const { body } = await send(pathOf(key), { signal });
  const state = readText(property(body, "state"), 64);
  const runAfter = property(body, "run_after");
  return {
    state,
    isEnded: ENDED_STATES.includes(state),
    endedAt: readTime(property(body, "end_date")),
    // As Airflow has sent it: a number of milliseconds would lack the microseconds.
    runAfter: readTime(runAfter) === null ? null : runAfter,
    tryNumber: readInteger(property(body, "try_number"), 0, 1_000_000) ?? 0,
    operator: readText(property(body, "operator_name"), 256) ?? readText(property(body, "operator"), 256),
  };
}

/** Returns the value of an XCom, when it was written, and whether it may not be read. */
export async function readXCom(key, name, signal, maxLength = MAX_RESPONSE) {
  const query = key.mapIndex < 0 ? "" : `?map_index=${key.mapIndex}`;
  try {
    const path = `${unmappedPathOf(key)}/xcomEntries/${name}${query}`;
    const { body, clockOffset } = await send(path, { signal, maxLength });
    const value = parsed(property(body, "value"));
    return { value, writtenAt: readTime(property(body, "timestamp")), forbidden: false, clockOffset };
  } catch (error) {
    if (error instanceof AirflowApiError && (error.status === 404 || error.status === 403)) {
      return { value: null, writtenAt: null, forbidden: error.status === 403, clockOffset: 0 };
    }
    throw error;
  }
}

/** Returns an XCom's value. Airflow returns some values as the JSON text that its database holds. */
function parsed(value) {
  if (typeof value !== "string" || !/^[[{"]/.test(value)) {
    return value;
  }
  try {
    return JSON.parse(value);
  } catch {
    return value; // a text that only begins like JSON
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
    throw new AirflowApiError(describe(response, text), response.status);
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
