// Reads the group that a step's task belongs to: the task of its execution, and the tasks of the other steps.
import { readTask, send } from "./airflow_api.js";
import { GROUP_OPERATOR, readSteps, STEP_OPERATOR } from "./execution.js";
import { readCost } from "./results.js";
import { property, readEntries, readList, readText } from "./validation.js";

const MAX_TASKS = 10_000;
const ID = 250;
const MAX_INPUTS = 100;
const URI = 2048;
// The graph of a DAG changes with its file only.
const MAX_REMEMBERED = 20;
const graphs = new Map();

/**
 * Reads what the tab shows: of the task of a step, also the step and the execution that it belongs to.
 *
 * @param key the task instance
 * @param {AbortSignal} signal ends the requests
 * @returns what `readTask` returns; of a step's task also `step`, if its group can be read
 * @throws {AirflowApiError} something cannot be read
 */
export async function readTaskAndStep(key, signal) {
  const data = await readTask(key, signal);
  if (data.instances || data.forbidden || data.task.operator !== STEP_OPERATOR) {
    return data;
  }
  try {
    const step = await readStep(key, data, signal);
    return step === null ? data : { ...data, step, isFinal: data.isFinal && step.isFinal };
  } catch (error) {
    // The task itself is there: its group is not, or may not be seen.
    if (error.status === 403 || error.status === 404) {
      return data;
    }
    throw error;
  }
}

async function readStep(key, data, signal) {
  const group = groupOf(await readGraph(key, signal), key.taskId);
  if (group === null) {
    return null;
  }
  const executionKey = { ...key, taskId: group.executionTaskId };
  // A task that begins again in a triggerer keeps what its earlier try has stored.
  const hasOwn = data.task.isEnded || data.task.state === "up_for_retry";
  const own = hasOwn ? data.xcoms : null;
  const execution = await readTask(executionKey, signal);
  return { group, executionKey, ...execution, step: mergedStep(group, execution.execution ?? null, own) };
}

/** Returns the step as its own task has stored it, or else as the task of the execution has. */
function mergedStep(group, execution, xcoms) {
  const name = group.own.name;
  const listed = execution?.steps.find((step) => step.name === name) ?? null;
  const row = xcoms?.valueOf("step");
  if (execution === null || !row) {
    return listed;
  }
  // A step that has failed returns nothing.
  const outputs = Object.fromEntries(readEntries(xcoms.valueOf("return_value") ?? property(row, "outputs"), MAX_TASKS));
  const [own] = readSteps([row], { [property(row, "name")]: outputs }, execution.run);
  // A resume, or a clear, has repeated the step since.
  const isNewer = own && (listed === null || (own.startedAt ?? 0) >= (listed.startedAt ?? 0));
  const results = own?.results ?? listed?.results ?? null;
  return isNewer ? { ...listed, ...own, results, job: readJob(row) } : listed;
}

/** Returns what a step cost, and what its job used, as only its own task has stored it. */
function readJob(row) {
  return {
    cost: readCost(property(row, "cost")),
    image: readText(property(row, "image"), URI),
    inputs: readList(property(row, "inputs"), MAX_INPUTS)
      .map((uri) => readText(uri, URI))
      .filter((uri) => uri !== null),
  };
}

/** Returns the tasks of a DAG: their ids, operators, names, and what follows each. */
export async function readGraph({ dagId, runId }, signal) {
  const id = JSON.stringify([dagId, runId]);
  if (!graphs.has(id)) {
    const { body } = await send(`api/v2/dags/${encodeURIComponent(dagId)}/tasks`, { signal });
    const tasks = readList(property(body, "tasks"), MAX_TASKS)
      .map((task) => ({
        id: readText(property(task, "task_id"), ID),
        operator: readText(property(task, "operator_name"), ID),
        name: readText(property(task, "task_display_name"), ID),
        next: readList(property(task, "downstream_task_ids"), MAX_TASKS),
      }))
      .filter((task) => task.id !== null);
    if (graphs.size >= MAX_REMEMBERED) {
      graphs.clear();
    }
    graphs.set(id, new Map(tasks.map((task) => [task.id, task])));
  }
  return graphs.get(id);
}

/** Returns the ids of the tasks that follow a task, with it, in the order in which they are found. */
function downstreamOf(graph, taskId) {
  const found = new Set([taskId]);
  // A set yields also what is added meanwhile.
  for (const id of found) {
    for (const next of graph.get(id)?.next ?? []) {
      found.add(next);
    }
  }
  return found;
}

/**
 * Returns the group of a step's task: its own task, that of the execution, those of all steps, and the steps that a
 * clear with "Downstream" clears; null if the DAG has no such group any more.
 */
export function groupOf(graph, taskId) {
  const own = graph.get(taskId);
  const following = downstreamOf(graph, taskId);
  const executionTaskId = [...following].find((id) => graph.get(id)?.operator === GROUP_OPERATOR);
  if (own === undefined || executionTaskId === undefined) {
    return null;
  }
  const tasks = stepTasksOf(graph, executionTaskId);
  return { own, executionTaskId, tasks, cleared: tasks.filter(({ id }) => following.has(id)) };
}

/** Returns the tasks of the steps of an execution, by the id of its task. */
export function stepTasksOf(graph, executionTaskId) {
  return [...graph.values()].filter(
    ({ id, operator }) => operator === STEP_OPERATOR && downstreamOf(graph, id).has(executionTaskId),
  );
}

