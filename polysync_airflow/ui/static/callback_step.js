// What the tab shows for a task that answers a callback step of an execution.
import { Arn, ConsoleLink, h, Stat, StateBadge, ValueTable } from "./components.js";

// By the state of the task: Airflow has no state for "answered with a failure".
const ANSWERS = {
  success: ["Success", "The step was answered."],
  failed: ["Failed", "The task has failed. Its log says whether and how the step was answered."],
  skipped: ["Cancelled", "The task was skipped. Its log says whether and how the step was answered."],
};

/** The execution, the step and its answer. */
export function CallbackStep({ task, callback, action }) {
  const { arn, step, consoleUrl, answer } = callback;
  const [state, text] = ANSWERS[task.state] ?? ["Running", "The step was not answered yet."];
  const isAnswered = task.state === "success";
  return h(
    "section",
    { className: "psm-card", "aria-label": "Callback step" },
    h(
      "div",
      { className: "psm-title" },
      h("span", { role: "status" }, h(StateBadge, { state, isLarge: true })),
      h("h2", { className: "psm-name" }, `Callback step ${step ?? ""}`),
      h("span", { className: "psm-spacer" }),
      consoleUrl && h(ConsoleLink, { url: consoleUrl, className: "psm-button" }, "SageMaker Console"),
      action,
    ),
    h(
      "dl",
      { className: "psm-stats" },
      h(Stat, { label: "Answer" }, isAnswered && answer.length === 0 ? `${text} It has no output parameters.` : text),
    ),
    isAnswered && answer.length > 0 && h(ValueTable, { rows: answer, label: "Output parameters of the step" }),
    arn && h("div", { className: "psm-line" }, h(Arn, { arn, label: "Copy the ARN of the execution" })),
  );
}
