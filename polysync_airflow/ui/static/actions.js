// The buttons that act on an execution: resume or repeat it after a failure, stop it while it runs.
import { readClearChoice, restart, stop, writeClearChoice } from "./actions_api.js";
import { Button, h, Notice } from "./components.js";
import { countStates, isLeftOut, isReused } from "./execution.js";

const { useCallback, useEffect, useRef, useState } = globalThis.React;

const RESUME = "Resume failed steps";
const NEW = "Start a new execution";
const STOP = "Stop execution";
const CLEARS = "This clears the task and the tasks after it, so that the DAG run goes on.";
const MAX_NAMES = 4;
// Where nobody can act: there is no such task, or no permission. After 401, the tab says that the session has ended.
const QUIET_STATUSES = [401, 403, 404];

/** The buttons for an execution in its present state, if the person who looks at it may act. */
export function Actions({ state, refresh }) {
  const key = JSON.parse(state.keyText);
  const { task, execution } = state.data;
  const offers = offersOf(task, execution);
  const [permission, readAgain] = usePermission(state.keyText, offers.length > 0);
  const [asked, setAsked] = useState(null);
  const [result, setResult] = useState(null);
  if (permission.error !== null) {
    return h(Notice, { kind: "warning", title: "The buttons are not available" }, permission.error);
  }
  const act = async (offer) => {
    setResult({ isRunning: true });
    try {
      await offer.act(key);
      setResult({ kind: "info", title: offer.done });
    } catch (error) {
      setResult({ kind: "error", title: `“${offer.label}” failed`, text: error.message });
      readAgain();
    }
    setAsked(null);
    refresh();
  };
  const offer = offers.find((each) => each.label === asked);
  const isRunning = result?.isRunning === true;
  return [
    result !== null && !isRunning && h(Notice, { key: "result", kind: result.kind, title: result.title }, result.text),
    permission.isGiven &&
      offers.length > 0 &&
      h(
        "section",
        { key: "card", className: "psm-card psm-actions", "aria-label": "Actions" },
        offer
          ? h(Question, { offer, isRunning, onYes: () => act(offer), onNo: () => setAsked(null) })
          : offers.map((each) => h(Offer, { key: each.label, offer: each, onClick: () => setAsked(each.label) })),
        permission.onClear !== null && !offer && h(StoredChoice, { permission, keyText: state.keyText, readAgain }),
      ),
  ];
}

/** Returns the actions that make sense: their labels, what they do, and what to say before and after. */
function offersOf(task, { run, steps }) {
  if (!task.isEnded) {
    const isAtWork = run.state === "Running" && ["running", "deferred"].includes(task.state);
    return isAtWork ? [stopOffer()] : [];
  }
  const hasFailed = task.state === "failed" || ["Failed", "Cancelled"].includes(run.state);
  if (!hasFailed || task.state === "removed") {
    return [];
  }
  return run.state === "Failed" ? [resumeOffer(steps), newOffer(run, steps)] : [newOffer(run, steps)];
}

function resumeOffer(steps) {
  const left = steps.filter((step) => step.state !== "Success" && !isLeftOut(step));
  const names = left.length === 0 ? "" : ` (${listNames(left)})`;
  return {
    label: RESUME,
    text: `Runs what has not succeeded${names}. ${describeKept(steps)} The parameters stay those of the start.`,
    note: `If AWS refuses the resume, a new execution starts. ${CLEARS}`,
    done: "The task is cleared. Its next try resumes the execution.",
    act: (key) => restart(key, "resume"),
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

function newOffer(run, steps) {
  const taken = steps.filter((step) => !isLeftOut(step) && !isReused(step));
  const what = { 0: "Runs every step", 1: "Runs its step again" }[taken.length] ?? `Runs all ${taken.length} steps`;
  const first = run.state === "Running" ? " The execution of before is stopped first, if it still runs." : "";
  return {
    label: NEW,
    text:
      `${what}, and each is paid again, unless the cache of the pipeline has its result. ` +
      `The parameters are rendered anew.${first}`,
    note: CLEARS,
    done: "The task is cleared. Its next try starts a new execution.",
    act: (key) => restart(key, "new"),
  };
}

function stopOffer() {
  return {
    label: STOP,
    text:
      "Marks the task as failed, which stops the execution, unless the DAG sets stop_on_kill=False. A stopped " +
      "execution cannot be resumed: a new one runs every step, and each is paid again.",
    note: null,
    done: "The task is marked as failed, and its execution is being stopped.",
    act: stop,
  };
}

function listNames(steps) {
  const names = steps.slice(0, MAX_NAMES).map((step) => step.name);
  const more = steps.length - names.length;
  return more > 0 ? `${names.join(", ")} and ${more} more` : names.join(", ");
}

function Offer({ offer, onClick }) {
  return h(
    "div",
    { className: "psm-action" },
    h(Button, { onClick }, offer.label),
    h("span", { className: "psm-action-text" }, offer.text),
  );
}

function Question({ offer, isRunning, onYes, onNo }) {
  const group = useRef(null);
  useEffect(() => group.current?.focus(), []);
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
      h(Button, { onClick: unlessDouble, isDisabled: isRunning, isPrimary: true }, `Yes, ${lowerFirst(offer.label)}`),
      h(Button, { onClick: onNo, isDisabled: isRunning }, "Cancel"),
    ),
  );
}

function lowerFirst(text) {
  return text[0].toLowerCase() + text.slice(1);
}

/** Says that the next clear does not do what the DAG says, because somebody chose it and the clear failed. */
function StoredChoice({ permission, keyText, readAgain }) {
  const [problem, setProblem] = useState("");
  const withdraw = async () => {
    try {
      await writeClearChoice(JSON.parse(keyText), null);
      readAgain();
    } catch (error) {
      setProblem(` It could not be withdrawn: ${error.message}`);
    }
  };
  const what = permission.onClear === "resume" ? "resumes the failed steps" : "starts a new execution";
  return h(
    "div",
    { className: "psm-action psm-muted" },
    h(Button, { onClick: withdraw }, "Withdraw"),
    h("span", null, `The next clear of this task ${what}: somebody chose that here. It was not cleared yet.${problem}`),
  );
}

/** Returns whether the person who looks may act and what was chosen before, and a function that reads both again. */
function usePermission(keyText, isNeeded) {
  const [permission, setPermission] = useState(NOT_KNOWN);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (!isNeeded) {
      return undefined;
    }
    const abort = new AbortController();
    readClearChoice(JSON.parse(keyText), abort.signal).then(
      (onClear) => setPermission({ isGiven: true, onClear, error: null }),
      (error) => {
        if (!abort.signal.aborted) {
          const isQuiet = QUIET_STATUSES.includes(error.status);
          setPermission({ ...NOT_KNOWN, error: isQuiet ? null : error.message });
        }
      },
    );
    return () => abort.abort();
  }, [keyText, isNeeded, attempt]);
  const readAgain = useCallback(() => setAttempt((number) => number + 1), []);
  return [permission, readAgain];
}

const NOT_KNOWN = { isGiven: false, onClear: null, error: null };
