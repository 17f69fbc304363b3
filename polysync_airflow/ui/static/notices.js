// What is shown in the place of data that cannot be read, or not yet.
import { Button, ConsoleLink, h, Notice } from "./components.js";
import { formatSeconds } from "./format.js";
import { useNow } from "./polling.js";

const { useState } = globalThis.React;

const SLOW = 3;

/** Says that Airflow's own header does not show a clear by a button of the tab: it is not told. */
export function OldHeader({ state }) {
  const text = `They still say “${state}”, as before the clear. A reload shows the task as it is now.`;
  const action = h(Button, { onClick: () => location.reload() }, "Reload the page");
  return h(Notice, { kind: "info", title: "Airflow's header and grid are not up to date", action }, text);
}

/** Says that Airflow has no such task instance, and what is known of its execution. */
export function NoTask({ state, refresh }) {
  const execution = state.data?.execution ?? null;
  const url = execution?.consoleUrl ?? null;
  const action = [
    url !== null && h(ConsoleLink, { key: "console", url, className: "psm-button" }, "SageMaker Console"),
    h(Button, { key: "retry", onClick: refresh, isDisabled: state.isReading }, "Retry now"),
  ];
  const orWrong = state.data === null ? ", or the address is wrong" : "";
  const text = `Somebody has deleted it, its DAG run or its DAG${orWrong}. ${describeLeft(execution)}`;
  return h(Notice, { kind: "warning", title: "Airflow has no such task instance", action }, text);
}

/** Returns what becomes of the execution of a task that was deleted, as far as the tab has read of it before. */
function describeLeft(execution) {
  if (execution === null || execution.run.arn === null) {
    return "If it had an execution, polysync executions list and the AWS console show what became of that.";
  }
  const { arn, state, stopsWithTask } = execution.run;
  if (state !== "Running") {
    return `Its execution ${arn} had the state ${state}.`;
  }
  const effect = stopsWithTask ? "is stopped" : "goes on, because the DAG sets stop_on_kill=False";
  return `Its execution ${arn} ran, and ${effect}: the AWS console shows its end.`;
}

/** Says that the tab does not read what the task has stored of its execution, and where to look for it. */
export function TooLarge() {
  const text =
    "Somebody has changed what the task has stored of its execution, or its parameters are very long. The execution " +
    "itself is not affected: the AWS console shows it, and so does polysync executions list.";
  return h(Notice, { kind: "warning", title: "The XCom “run” of the task is too large" }, text);
}

/** Says that Airflow's API could not be read, how old the data are, and when it is read again. */
export function ErrorNotice({ state, refresh }) {
  const { error, data, readAt, retryAt } = state;
  const now = useNow();
  const texts = [error.message];
  if (error.status === 401) {
    texts.push("Your session has ended: reload the page to sign in.");
  }
  if (error.status === 403) {
    texts.push("You may not see this task: an administrator of Airflow can change that.");
  }
  if (data !== null) {
    texts.push(`What you see is ${formatSeconds(Math.max(1, (now - readAt) / 1000))} old.`);
  }
  if (retryAt !== null) {
    texts.push(`Next attempt in ${formatSeconds(Math.max(1, Math.ceil((retryAt - now) / 1000)))}.`);
  }
  const action = h(Button, { onClick: refresh, isDisabled: state.isReading }, "Retry now");
  return h(Notice, { kind: "error", title: "Airflow's API cannot be read", action }, texts.join(" "));
}

/** Says that the first data are being read, and for how long if that takes long. */
export function Loading() {
  const [began] = useState(Date.now);
  const seconds = Math.floor((useNow() - began) / 1000);
  const slow = seconds >= SLOW ? ` Airflow's API has not responded for ${formatSeconds(seconds)}.` : "";
  return h("p", { role: "status" }, `Loading …${slow}`);
}
