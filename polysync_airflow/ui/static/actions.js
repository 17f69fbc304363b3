// The buttons that act on an execution: resume or repeat it after a failure, stop it while it runs.
import { readClearChoice, restart, stop, writeClearChoice } from "./actions_api.js";
import { Button, h, Notice } from "./components.js";
import { countStates, hasStepTasks, isLeftOut, isReused, isStart } from "./execution.js";
import { tellOtherPages } from "./polling.js";
import { shownState } from "./stops.js";

const { useEffect, useId, useRef, useState } = globalThis.React;

const RESUME = "Resume failed steps";
const NEW = "Start a new execution";
const STOP = "Stop execution";
// Where the execution outlives its task.
const END_TASK = "End the task";
const AFTER = "and the tasks after it, so that the DAG run goes on.";
const CLEARS = `This clears the task ${AFTER}`;
const MAX_NAMES = 4;
const CLEAR_STARTS = "Airflow's button Clear starts a new execution.";
// Where nobody can act: there is no such task, or no permission. After 401, the tab says that the session has ended.
const QUIET_STATUSES = [401, 403, 404];

/**
 * The buttons for an execution in its present state, if the person who looks at it may act.
 *
 * @param notice what is known of a stop; it takes the place of what came of an action
 */
export function Actions({ state, refresh, refreshes, onClear, notice }) {
  const key = JSON.parse(state.keyText);
  const { task, execution } = state.data;
  // Old data say nothing about what can be done now.
  const offers = state.error === null ? offersOf(task, execution, state.data.isFinal) : [];
  const permission = usePermission(state.keyText, offers.length > 0, refreshes);
  const [asked, setAsked] = useState(null);
  const [result, setResult] = useState(null);
  const cancelled = useRef(null);
  const offer = offers.find((each) => each.label === asked);
  const isRunning = result === RUNNING;
  // An execution that has ended shows by itself what came of its stop.
  const isOld = result?.ofStop && execution.run.state !== "Running";
  const shownResult = isRunning || isOld ? null : result;
  useEffect(() => {
    cancelled.current = null;
    if (offer === undefined) {
      setAsked(null);
    }
  });
  const act = async (offer) => {
    setResult(RUNNING);
    try {
      await offer.act(key);
      setResult({ kind: "info", title: offer.done, ofStop: offer.act === stop });
      tellOtherPages();
      if (offer.act !== stop) {
        onClear();
      }
    } catch (error) {
      setResult({ kind: "error", title: `“${offer.label}” failed`, text: error.message });
    }
    setAsked(null);
    refresh();
  };
  const cancel = () => {
    cancelled.current = asked;
    setAsked(null);
  };
  return [
    (shownResult ?? notice) !== null && h(Result, { key: "result", result: shownResult, notice }),
    offers.length > 0 && h(WhyNoButtons, { key: "why", permission, task, run: execution.run, refresh }),
    permission.isGiven &&
      offers.length > 0 &&
      h(
        "section",
        { key: "card", className: "psm-card psm-actions", "aria-label": "Actions" },
        offer
          ? h(Question, { offer, isRunning, onYes: () => act(offer), onNo: cancel })
          : offers.map((each) =>
              h(Offer, {
                key: each.label,
                offer: each,
                autoFocus: cancelled.current === each.label,
                onClick: () => setAsked(each.label),
              }),
            ),
        permission.onClear !== null &&
          !offer &&
          result?.kind !== "info" &&
          h(StoredChoice, { onClear: permission.onClear, keyText: state.keyText, refresh }),
      ),
  ];
}

function WhyNoButtons({ permission, task, run, refresh }) {
  if (permission.error !== null) {
    const action = h(Button, { onClick: refresh }, "Try again");
    return h(Notice, { kind: "warning", title: "The buttons are not available", action }, permission.error);
  }
  if (!permission.hasNoRecord || !task.isEnded || !isStart(task)) {
    return null;
  }
  if (run.state === "Success" && hasStepTasks(task)) {
    // What a clear does follows from the tasks that are cleared with this one.
    return null;
  }
  // The task itself deletes it when the execution has succeeded.
  const gone = run.state === "Success" ? "" : "The record of this execution is gone: somebody has deleted it. ";
  return h(Notice, { kind: "info" }, `${gone}${CLEAR_STARTS}`);
}

/** Returns the actions that make sense: their labels, what they do, and what to say before and after. */
function offersOf(task, { run, steps }, isFinal) {
  const shown = shownState(task, run, isFinal);
  if (!task.isEnded) {
    const isAtWork = shown === "Running" && ["running", "deferred"].includes(task.state);
    return isAtWork ? [run.stopsWithTask ? stopOffer() : endTaskOffer()] : [];
  }
  const hasFailed = task.state === "failed" || ["Stopping", "Failed", "Cancelled"].includes(shown);
  if (!hasFailed || task.state === "removed") {
    return [];
  }
  return run.state === "Failed" && !steps.some(isFailStep)
    ? [resumeOffer(task, steps), newOffer(task, run, steps)]
    : [newOffer(task, run, steps)];
}

/** Returns whether a step has ended its execution so that AWS does not resume it. */
function isFailStep(step) {
  return step.type === "Fail" && step.state === "Failed";
}

function resumeOffer(task, steps) {
  const left = steps.filter((step) => step.state !== "Success" && !isLeftOut(step));
  const names = left.length === 0 ? "" : ` (${listNames(left)})`;
  const clears = hasStepTasks(task) ? `This clears the task, the tasks of the failed steps ${AFTER}` : CLEARS;
  return {
    label: RESUME,
    text: `Runs what has not succeeded${names}. ${describeKept(steps)} The parameters stay those of the start.`,
    note: `If AWS refuses the resume, a new execution starts. ${clears}`,
    done: "The task is cleared. Its next try resumes the execution.",
    act: (key) => restart(key, hasStepTasks(task), "resume"),
  };
}

function describeKept(steps) {
  const kept = countStates(steps).get("Success");
  if (steps.length === 0) {
    return "What has succeeded is kept, and not paid again.";
  }
  if (kept === 0) {
    return "No step has succeeded, so none is kept.";
  }
  return kept === 1
    ? "The step that has succeeded is kept, and not paid again."
    : `The ${kept} steps that have succeeded are kept, and not paid again.`;
}

function newOffer(task, run, steps) {
  const taken = steps.filter((step) => !isLeftOut(step) && !isReused(step));
  const what = { 0: "Runs every step", 1: "Runs its step again" }[taken.length] ?? `Runs all ${taken.length} steps`;
  const before = run.stopsWithTask ? "is stopped first" : "is awaited first (stop_on_kill=False)";
  const first = run.state === "Running" ? ` The execution, if it still runs, ${before}.` : "";
  const why = steps.some(isFailStep) ? "AWS does not resume an execution that a Fail step has ended. " : "";
  return {
    label: NEW,
    text:
      `${why}${what}, and each is paid again, unless the cache of the pipeline has its result. ` +
      `The parameters are rendered anew.${first}`,
    note: hasStepTasks(task) ? `This clears the task, the tasks of all steps ${AFTER}` : CLEARS,
    done: "The task is cleared. Its next try starts a new execution.",
    act: (key) => restart(key, hasStepTasks(task), "new"),
  };
}

function stopOffer() {
  return {
    label: STOP,
    text:
      "Marks the task as failed, which stops the execution. A stopped execution cannot be resumed: a new one runs " +
      "every step, and each is paid again.",
    note: null,
    kind: "danger",
    done: "The task is marked as failed, which stops the execution.",
    act: stop,
  };
}

function endTaskOffer() {
  return {
    label: END_TASK,
    text:
      "Marks the task as failed. The execution goes on, because the DAG sets stop_on_kill=False: the AWS console and " +
      "polysync executions stop can stop it.",
    note: null,
    kind: "danger",
    done: "The task is marked as failed. The execution goes on.",
    act: stop,
  };
}

function listNames(steps) {
  const names = steps.slice(0, MAX_NAMES).map((step) => step.name);
  const more = steps.length - names.length;
  return more > 0 ? `${names.join(", ")} and ${more} more` : names.join(", ");
}

/** A button with what it does. It takes the focus if it takes the place of a question that was cancelled. */
function Offer({ offer, onClick, autoFocus }) {
  const id = useId();
  return h(
    "div",
    { className: "psm-action" },
    h(Button, { onClick, autoFocus, kind: offer.kind ?? null, "aria-describedby": id }, offer.label),
    h("span", { id, className: "psm-action-text" }, offer.text),
  );
}

/** What came of an action, or what is known since. An action's takes the focus, because the buttons are gone. */
function Result({ result, notice }) {
  const frame = useRef(null);
  useEffect(() => {
    if (result !== null) {
      frame.current.focus();
    }
  }, [result]);
  const isNotice = notice !== null && result?.kind !== "error";
  return h(
    "div",
    { ref: frame, tabIndex: -1, className: "psm-result" },
    isNotice ? notice : h(Notice, { kind: result.kind, title: result.title }, result.text),
  );
}

function Question({ offer, isRunning, onYes, onNo }) {
  const group = useRef(null);
  useEffect(() => group.current?.focus(), []);
  const kind = offer.kind ?? "primary";
  // The second click of a double click is no answer.
  const unlessDouble = (event) => event.detail <= 1 && onYes();
  const onKeyDown = (event) => event.key === "Escape" && !isRunning && onNo();
  return h(
    "div",
    { ref: group, tabIndex: -1, role: "group", "aria-label": `${offer.label}?`, className: "psm-question", onKeyDown },
    h("strong", null, `${offer.label}?`),
    h("div", null, offer.text),
    offer.note !== null && h("div", null, offer.note),
    h(
      "div",
      { className: "psm-answers" },
      h(Button, { onClick: unlessDouble, isDisabled: isRunning, kind }, `Yes, ${lowerFirst(offer.label)}`),
      h(Button, { onClick: onNo, isDisabled: isRunning }, "Cancel"),
    ),
  );
}

function lowerFirst(text) {
  return text[0].toLowerCase() + text.slice(1);
}

/** The choice that is left for a task without an execution. */
export function ChoiceLeft({ keyText, refresh, refreshes }) {
  const { onClear } = usePermission(keyText, true, refreshes);
  return (
    onClear !== null &&
    h(
      "section",
      { className: "psm-card psm-actions", "aria-label": "Actions" },
      h(StoredChoice, { onClear, keyText, refresh }),
    )
  );
}

/** Says that the next clear does not do what the DAG says, because somebody chose it and no try has followed it. */
function StoredChoice({ onClear, keyText, refresh }) {
  const [problem, setProblem] = useState("");
  const withdraw = async () => {
    try {
      await writeClearChoice(JSON.parse(keyText), null);
      refresh();
    } catch (error) {
      setProblem(` It could not be withdrawn: ${error.message}`);
    }
  };
  const what = onClear === "resume" ? "resumes the failed steps" : "starts a new execution";
  const text = `The next clear of this task ${what}: somebody chose that here, and no try has followed it yet.`;
  return h(
    "div",
    { className: "psm-action psm-muted" },
    h(Button, { onClick: withdraw }, "Withdraw"),
    h("span", null, `${text}${problem}`),
  );
}

/** Returns whether the person who looks may act, and what was chosen before. Each refresh reads both again. */
function usePermission(keyText, isNeeded, refreshes) {
  const [permission, setPermission] = useState(NOT_KNOWN);
  useEffect(() => {
    if (!isNeeded) {
      return undefined;
    }
    const abort = new AbortController();
    readClearChoice(JSON.parse(keyText), abort.signal).then(
      ({ onClear, hasRecord }) =>
        setPermission({ ...NOT_KNOWN, isGiven: hasRecord, onClear, hasNoRecord: !hasRecord }),
      (error) => {
        if (!abort.signal.aborted) {
          const isQuiet = QUIET_STATUSES.includes(error.status);
          setPermission({ ...NOT_KNOWN, error: isQuiet ? null : error.message });
        }
      },
    );
    return () => abort.abort();
  }, [keyText, isNeeded, refreshes]);
  return permission;
}

const NOT_KNOWN = { isGiven: false, onClear: null, hasNoRecord: false, error: null };
const RUNNING = { kind: null };
