// What the buttons of the tab do: requests to Airflow's public REST API, and to the endpoint of ui/app.py.
// https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
import { AirflowApiError, pathOf, readTaskInstance, send } from "./airflow_api.js";
import { readGraph, stepTasksOf } from "./step_group.js";
import { property, readChoice } from "./validation.js";

const CHOICES = ["new", "resume"];
// A clear of many tasks takes long.
const CLEAR_TIMEOUT = 120_000;
// A proxy has received no response from Airflow.
const PROXY_STATUSES = [502, 504];
const AT_WORK = ["running", "deferred"];

/**
 * Reads what somebody chose for the next clear of a task. For who may not clear the task, that is an error.
 *
 * @returns "new" or "resume", or null if `on_clear` of the operator decides; and whether the task has a record of an
 *   execution
 * @throws {AirflowApiError} the status is 403 without permission, which is no error of the request
 */
export async function readClearChoice(key, signal) {
  const query = new URLSearchParams({ run_id: key.runId, task_id: key.taskId, map_index: key.mapIndex });
  const { body } = await send(`${choicePath(key)}?${query}`, { signal });
  if (property(body, "is_allowed") === false) {
    throw new AirflowApiError("You may not clear the task.", 403);
  }
  const onClear = readChoice(property(body, "on_clear"), CHOICES, null);
  return { onClear, hasRecord: property(body, "has_record") === true };
}

/** Stores what the next clear of a task does; null withdraws it. */
export async function writeClearChoice(key, onClear) {
  const body = { run_id: key.runId, task_id: key.taskId, map_index: key.mapIndex, on_clear: onClear };
  await send(choicePath(key), { method: "PUT", body });
}

/**
 * Clears a task and those after it, as Airflow's own button does by default, to resume or to start anew. With the
 * task that starts the execution of a group, it clears the tasks of the steps: to resume, those that have failed.
 *
 * @param {{dagId: string, runId: string, taskId: string, mapIndex: number}} key the task instance
 * @param {boolean} isOfGroup whether the execution has a task for each step
 * @param {"resume"|"new"} onClear what its next try does
 * @throws {AirflowApiError} the task was not cleared, or may not have been; the message says whether the choice is
 *   still stored
 */
export async function restart(key, isOfGroup, onClear) {
  const steps = isOfGroup ? await readStepTasks(key) : [];
  await writeClearChoice(key, onClear);
  try {
    await clear(key, onClear === "new" ? [key.taskId, ...steps] : [key.taskId]);
  } catch (error) {
    const isRefused = error.status !== null && !PROXY_STATUSES.includes(error.status);
    const choice = isRefused ? await withdrawn(key) : " The task may still be cleared, so the choice is kept.";
    throw new AirflowApiError(`${error.message}${choice}`, error.status);
  }
  if (onClear === "resume" && steps.length > 0) {
    await clearFailedSteps(key, steps);
  }
}

async function clearFailedSteps(key, steps) {
  try {
    await clear(key, steps, true);
  } catch (error) {
    const cure = "The execution is resumed, but the tasks of its failed steps are not cleared: clear them in the grid.";
    throw new AirflowApiError(`${error.message} ${cure}`, error.status);
  }
}

/** Returns the ids of the tasks of the steps of an execution, by the key of its task. */
async function readStepTasks(key) {
  return stepTasksOf(await readGraph(key), key.taskId).map(({ id }) => id);
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

async function clear(key, taskIds, onlyFailed = false) {
  const body = {
    dry_run: false,
    dag_run_id: key.runId,
    task_ids: taskIds.map((id) => (key.mapIndex < 0 ? id : [id, key.mapIndex])),
    include_downstream: true,
    only_failed: onlyFailed,
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
