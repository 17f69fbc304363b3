// What a clear of the task of a step makes AWS repeat. The rules are those of execution/step_clears.py, by which
// the operator decides.

// AWS's limit of a selective execution.
const MAX_SELECTED = 50;
// The statuses of executions whose steps AWS repeats one by one.
const SOURCE_STATUSES = ["Succeeded", "Failed"];
const MAX_NAMES = 6;
const NOTHING = "AWS repeats nothing";
const GOES_ON = "The execution goes on to its end.";

/**
 * Returns what a clear of this task alone does, and what one with the tasks after it does.
 *
 * @param group what `groupOf` returns
 * @param execution the execution as the tab knows it; null if there is none
 */
export function clearEffects(group, execution) {
  return {
    alone: `${NOTHING}. The task looks at the step again: clear with Downstream.`,
    downstream: effectOf(group, execution),
  };
}

function effectOf({ tasks, cleared }, execution) {
  if (execution === null) {
    return "AWS starts an execution, if there is none yet.";
  }
  const { run, steps } = execution;
  // Airflow lists the tasks by their ids.
  const order = steps.map(({ name }) => name);
  const names = cleared.map(({ name }) => name).sort((one, other) => order.indexOf(one) - order.indexOf(other));
  const isRunning = run.state === "Running";
  if (cleared.length === tasks.length) {
    const stop = isRunning ? " The one that runs is stopped before." : "";
    return `AWS runs all ${tasks.length} steps again, in a new execution.${stop}`;
  }
  const hasSucceeded = ({ name }) => steps.some((step) => step.name === name && step.state === "Success");
  const repeatsSuccess = cleared.some(hasSucceeded);
  if (isRunning && !repeatsSuccess) {
    const resumes = "If it fails, AWS resumes it, and repeats what has not succeeded; otherwise, AWS repeats nothing.";
    return `${GOES_ON} ${resumes}`;
  }
  if (run.state === "Failed" && !repeatsSuccess) {
    const left = steps.filter((step) => ["Failed", "Cancelled", "NotStarted"].includes(step.state));
    return `AWS resumes the execution, and repeats what has not succeeded: ${listNames(left.map(({ name }) => name))}.`;
  }
  if (!isRunning && !SOURCE_STATUSES.includes(run.status)) {
    return `${NOTHING}, because the execution ended with the status ${run.status ?? run.state}: clear all its steps.`;
  }
  if (names.length > MAX_SELECTED) {
    const limit = `${names.length} steps are more than the ${MAX_SELECTED} that it can select`;
    return `${NOTHING}, because ${limit}: clear all steps.`;
  }
  const first = isRunning ? `${GOES_ON} Then ` : "";
  return `${first}AWS repeats ${listNames(names)}, in a new execution that takes over the results of the others.`;
}

function listNames(names) {
  const more = names.length - MAX_NAMES;
  return more > 0 ? `${names.slice(0, MAX_NAMES).join(", ")} and ${more} more` : names.join(", ");
}
