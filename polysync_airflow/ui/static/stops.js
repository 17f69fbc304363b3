// What is shown of an execution that is being stopped, or whose end nobody has seen.
import { hasStepTasks } from "./execution.js";

// For how long a triggerer asks AWS how a stop ends (triggers/stopping.py), and how late it may have begun.
const FOLLOWED = 16 * 60_000;
// How long after the end of its task a stop may be stored, how long a worker may live after it, and how long after the
// end of the execution its cost may be stored.
const REQUESTED = 2 * 60_000;

/**
 * Returns whether somebody may still store how the execution of a task that has ended is stopped, or what it has cost.
 *
 * @param {number} now the time of the server in milliseconds
 */
export function mayStillStop(task, run, now) {
  if (!task.isEnded) {
    return false;
  }
  if (run.state !== "Running") {
    // Whoever has seen the end of a stop describes the jobs then, for as long at most.
    const seenAt = run.stop?.seenAt ?? null;
    return run.addedUpAt === null && seenAt !== null && now - seenAt < REQUESTED;
  }
  if (run.stop !== null) {
    const { process, result, error, requestedAt } = run.stop;
    const limit = process === null ? REQUESTED : FOLLOWED;
    return result !== "failed" && error === null && now - requestedAt < limit;
  }
  return task.endedAt !== null && now - task.endedAt < REQUESTED;
}

/**
 * Returns the state that the tab and the page show.
 *
 * A task that was cleared, or has ended, has its execution stopped: for some seconds, `run` does not say so yet.
 *
 * @param task the task instance
 * @param run the record of the execution
 * @param {boolean} isFinal whether nobody observes the execution any more
 */
export function shownState(task, run, isFinal) {
  if (run.state !== "Running") {
    return run.state;
  }
  if (run.status === "Stopping" || (run.stop !== null && run.stop.result !== "failed")) {
    return "Stopping";
  }
  const isCleared = task.state === null && !hasStepTasks(task);
  const wasEnded = isCleared || (task.isEnded && !isFinal);
  if (wasEnded && run.stop === null && run.stopsWithTask) {
    return "Stopping";
  }
  return task.isEnded ? "Unknown" : "Running";
}
