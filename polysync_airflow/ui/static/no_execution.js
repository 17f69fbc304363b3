// What the tab shows of a task that has no execution.
import { EarlierCosts } from "./comparison.js";
import { h, Notice } from "./components.js";
import { hasStepTasks, isStart, START_OPERATOR, STEP_OPERATOR } from "./execution.js";
import { EndOfLog } from "./task_log.js";
import { Next } from "./what_next.js";

export const STOP_OPERATOR = "PolysyncStopPipelineOperator";
const SENSOR = "PolysyncPipelineSensor";
const CALLBACK_OPERATOR = "PolysyncCallbackStepOperator";
const WAITING_STATES = [null, "scheduled", "queued", "up_for_retry", "up_for_reschedule", "restarting"];

/** Says why there is none, and what comes next. */
export function NoExecution({ keyText, task, next, action, costs }) {
  const found = {
    [STOP_OPERATOR]: "found the execution that it stops",
    [SENSOR]: "found an execution",
    [CALLBACK_OPERATOR]: "found the execution of its callback step",
  }[task.operator];
  const isOurs = (task.operator ?? "").startsWith("Polysync");
  if ((isStart(task) || found) && !task.isEnded) {
    const looks = task.operator === SENSOR && task.state === "up_for_reschedule";
    const what = found ?? "started its execution";
    const isWaiting = WAITING_STATES.includes(task.state) && !looks;
    const title = isWaiting ? "The task has not started yet" : `The task has not ${what} yet`;
    const text = `The execution appears here as soon as ${found ? "the task has found it" : "it exists"}.`;
    const stops = hasStepTasks(task)
      ? "waits for its end, and stops it if all steps were cleared"
      : "stops it, and waits for its end";
    const before = !found && task.tryNumber > 1 ? ` If that of an earlier try still runs, the task ${stops}.` : "";
    const following = [h(Next, { key: "next", next }), h(EarlierCosts, { key: "costs", costs })];
    return h(Notice, { kind: "info", title, action }, `${text}${before}`, following);
  }
  const end = task.tryNumber > 0 && h(EndOfLog, { keyText, tryNumber: task.tryNumber });
  if (isStart(task) || found) {
    const what = found ? "it had found the execution" : "SageMaker started an execution";
    const text = `The task ended before ${what}.`;
    return h(Notice, { kind: "info", title: "There is no execution", action }, text, h(Next, { next }), end);
  }
  if (task.operator === STEP_OPERATOR) {
    const text = "The task “execution” of its group shows the execution here, with all steps.";
    return h(Notice, { kind: "info", title: "This task watches one step" }, text);
  }
  const text =
    "This tab shows SageMaker pipeline executions that a task of " +
    `${START_OPERATOR} has started, one of ${STOP_OPERATOR} has stopped, or one of ${SENSOR} has found.`;
  const operator = task.operator === null ? "" : ` The operator of this task is ${task.operator}.`;
  const title = isOurs ? "This task starts no execution" : "This task has no execution of Polysync";
  return h(Notice, { kind: "info", title }, `${text}${operator}`, isOurs && task.state === "failed" && end);
}
