// Reads the last successful runs of a task from Airflow's REST API: a few while the task runs, for what they have cost,
// and more when it has ended.
import { AirflowApiError, mapSome, pageOf, readWholeXComs, send } from "./airflow_api.js";
import { isStart, readRun } from "./execution.js";
import { readResults, valuesOf } from "./results.js";
import { property, readList, readText, readTime } from "./validation.js";

const { useEffect, useState } = globalThis.React;

const MAX_RUNS = 10;
// Before the end of a task, only what these have cost is shown.
const RUNS_WITH_COST = 3;
const AT_ONCE = 3;
const TIMEOUT = 30_000;
// The task's XComs have at most 48 KiB each.
const RUN_ID = 512;
// After these statuses, the other requests have no other answer.
const REFUSALS = [401, 403];
const NOTHING = { runs: [], last: null, costs: [], note: null, isRead: false };

/**
 * Returns the last successful runs before this one of the same task and map index, the newest first, the values of
 * the newest one if it could be read, the costs of the last few that have one, and a note if some could not be read.
 *
 * @param state what `useTask` returns
 * @param {boolean} isWanted whether the task is one whose runs can be compared
 * @param {number} refreshes how often somebody has asked to read again
 */
export function useEarlierRuns({ keyText, data }, isWanted, refreshes) {
  const { task, execution } = data;
  const mayStart = isStart(task) && !task.isEnded;
  const isReady = isWanted && task.runAfter !== null && (execution !== null || mayStart);
  const limit = task.isEnded ? MAX_RUNS : RUNS_WITH_COST;
  // Whoever clears the task gets another try, with other values.
  const id = isReady ? `${keyText} ${task.tryNumber} ${limit}` : null;
  const [found, setFound] = useState({ id: null, ...NOTHING });

  useEffect(() => {
    if (id === null) {
      return undefined;
    }
    const abort = new AbortController();
    // Without results of this run, there is nothing with which those of earlier runs could be compared.
    const hasResults = task.isEnded && execution.steps.some((step) => step.results !== null);
    readEarlierRuns(JSON.parse(keyText), task.runAfter, limit, hasResults, abort.signal).then((earlier) => {
      if (!abort.signal.aborted) {
        setFound({ id, ...earlier, isRead: true });
      }
    });
    return () => abort.abort();
  }, [id, refreshes]);

  return found.id === id ? found : NOTHING;
}

async function readEarlierRuns(key, runAfter, limit, hasResults, signal) {
  const timeLimit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]);
  const failures = [];
  const attempt = async (read) => {
    try {
      return failures.some(({ status }) => REFUSALS.includes(status)) ? undefined : await read();
    } catch (error) {
      if (!(error instanceof AirflowApiError) && !signal.aborted) {
        throw error;
      }
      failures.push(error);
      return undefined;
    }
  };
  const listed = (await attempt(() => listRuns(key, runAfter, limit, timeLimit))) ?? [];
  const runs = await mapSome(listed, AT_ONCE, (run) => attempt(() => readEarlierRun(key, run, hasResults, timeLimit)));
  const found = runs.filter((run) => run !== null && run !== undefined);
  // A run that could not be read (undefined) may be the last successful one; one without such an execution is not.
  const last = runs.find((run) => run !== null)?.values ?? null;
  const costs = found.map(({ values }) => values.cost).filter((cost) => cost !== null);
  return { runs: found, last, costs: costs.slice(0, RUNS_WITH_COST), note: describeFailures(failures, listed.length) };
}

async function listRuns(key, runAfter, limit, signal) {
  const query = new URLSearchParams({
    task_id: key.taskId,
    map_index: key.mapIndex,
    state: "success",
    run_after_lt: runAfter,
    order_by: "-run_after",
    limit,
  });
  const path = `api/v2/dags/${encodeURIComponent(key.dagId)}/dagRuns/~/taskInstances`;
  const { body } = await send(`${path}?${query}`, { signal });
  return readList(property(body, "task_instances"), limit)
    .map((task) => ({
      runId: readText(property(task, "dag_run_id"), RUN_ID),
      runAfter: readTime(property(task, "run_after")),
    }))
    .filter(({ runId }) => runId !== null);
}

/**
 * Returns the values of an earlier run; null if the task has started no execution of all steps, or did not wait for its
 * success.
 */
async function readEarlierRun(key, { runId, runAfter }, hasResults, signal) {
  const earlier = { ...key, runId };
  const run = readRun(await readValue(earlier, "run", signal), { isEnded: true });
  if (run?.state !== "Success" || run.isSelective) {
    return null;
  }
  const outputs = hasResults ? await readValue(earlier, "outputs", signal) : null;
  const page = new URL(pageOf(earlier), document.baseURI).href;
  return { runId, runAfter, page, values: valuesOf(run, readResults(outputs)) };
}

async function readValue(key, name, signal) {
  const xcoms = await readWholeXComs(key, [name], signal);
  if (xcoms.forbidden) {
    throw new AirflowApiError("You may not read their XComs.", 403);
  }
  return xcoms.valueOf(name);
}

function describeFailures(failures, listed) {
  if (failures.length === 0) {
    return null;
  }
  const isPartial = listed > 1 && !REFUSALS.includes(failures[0].status);
  const what = isPartial ? `${failures.length} of ${listed} earlier runs` : "Earlier runs";
  return `${what} could not be read: ${failures[0].message}`;
}
