// What the buttons of the tab do: requests to Airflow's public REST API, and to the endpoint of ui/app.py.
// https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
import { AirflowApiError, pathOf, readTaskInstance, send } from "./airflow_api.js";
import { property, readChoice } from "./validation.js";

const CHOICES = ["new", "resume"];
// A clear of many tasks takes long.
const CLEAR_TIMEOUT = 120_000;
// A proxy has received no response from Airflow.
const PROXY_STATUSES = [502, 504];
const AT_WORK = ["running", "deferred"];

/**
 * Reads what somebody chose for the next clear of a task. Who may not clear the task gets an error with status 403.
 *
 * @returns "new" or "resume"; null if `on_clear` of the operator decides
 * @throws {AirflowApiError} the status is 403 without permission, 404 if the task has no record of an execution
 */
export async function readClearChoice(key, signal) {
  const query = new URLSearchParams({ run_id: key.runId, task_id: key.taskId, map_index: key.mapIndex });
  const { body } = await send(`${choicePath(key)}?${query}`, { signal });
  return readChoice(property(body, "on_clear"), CHOICES, null);
}

/** Stores what the next clear of a task does; null withdraws it. */
export async function writeClearChoice(key, onClear) {
  const body = { run_id: key.runId, task_id: key.taskId, map_index: key.mapIndex, on_clear: onClear };
  await send(choicePath(key), { method: "PUT", body });
}

/**
 * Clears a task and those after it, as Airflow's own button does by default, to resume or to start anew.
 *
 * @throws {AirflowApiError} the task was not cleared, or may not have been; the message says whether the choice is
 *   still stored
 */
export async function restart(key, onClear) {
  await writeClearChoice(key, onClear);
  try {
    await clear(key);
  } catch (error) {
    const isRefused = error.status !== null && !PROXY_STATUSES.includes(error.status);
    const choice = isRefused ? await withdrawn(key) : " The task may still be cleared, so the choice is kept.";
    throw new AirflowApiError(`${error.message}${choice}`, error.status);
  }
}

/**
 * Marks a task that is at work as failed. Its operator then stops the execution.
 *
 * @throws {AirflowApiError} the task is not at work any more, or Airflow has refused the request
 */
export async function stop(key) {
  // Airflow would mark a task that has succeeded, too.
  const { state } = await readTaskInstance(key);
  if (!AT_WORK.includes(state)) {
    throw new AirflowApiError(`The task has ended meanwhile. Its state is ${state ?? "not set"}.`, null);
  }
  await send(pathOf(key), { method: "PATCH", body: { new_state: "failed" } });
}

async function clear(key) {
  const body = {
    dry_run: false,
    dag_run_id: key.runId,
    task_ids: [key.mapIndex < 0 ? key.taskId : [key.taskId, key.mapIndex]],
    include_downstream: true,
    only_failed: false,
    reset_dag_runs: true,
    prevent_running_task: true,
  };
  await send(`api/v2/dags/${encodeURIComponent(key.dagId)}/clearTaskInstances`, {
    method: "POST",
    body,
    timeout: CLEAR_TIMEOUT,
  });
}

async function withdrawn(key) {
  try {
    await writeClearChoice(key, null);
    return "";
  } catch (error) {
    return ` The choice is still stored, because it could not be withdrawn: ${error.message}`;
  }
}

function choicePath(key) {
  return `polysync-sagemaker/dags/${encodeURIComponent(key.dagId)}/clear-choice`;
}
