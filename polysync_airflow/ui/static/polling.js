// Keeps data up to date while somebody looks at the tab or the page.
import { clockAhead, lastObserved } from "./execution.js";
import { readTaskAndStep } from "./step_group.js";

const { useCallback, useEffect, useRef, useState } = globalThis.React;

const INTERVAL = 10_000;
const MAX_INTERVAL = 300_000;
// After these statuses, another request has no other answer, unless somebody acts.
const FINAL_STATUSES = [401, 403, 404];
const CHANNEL = "polysync-sagemaker";
// For so long after an action, something may begin.
const STIRRED = 120_000;

/** Lets the other pages of this browser read at once, because somebody has acted here. */
export function tellOtherPages() {
  const channel = new BroadcastChannel(CHANNEL);
  channel.postMessage(null);
  channel.close();
}

/** Returns what `usePolling` returns, with the data of a task instance. */
export function useTask(key) {
  return usePolling(key, readTaskAndStep);
}

/**
 * Returns data, a function that reads them at once, and how often that was called.
 *
 * They are read every 10 s until they are final, and when somebody has acted on another page of this browser, but never
 * while the page is hidden. After errors, the interval doubles up to 5 minutes, and the last data remain.
 *
 * @param key what is read; other data are read if it changes
 * @param read a function with the parameters `key`, `signal`, and `show`, which it may call with a part of the data
 * @param {number|null} idleInterval the interval for final data in milliseconds; null if they stay as they are
 */
export function usePolling(key, read, idleInterval = null) {
  const [state, setState] = useState(() => initialState(key));
  const [attempt, setAttempt] = useState(0);
  const failures = useRef(0);
  const keyText = JSON.stringify(key);

  useEffect(() => {
    const abort = new AbortController();
    let timer = null;
    let isReading = false;
    let stirredUntil = 0;

    async function poll() {
      clearTimeout(timer);
      if (isReading || document.hidden) {
        return;
      }
      isReading = true;
      setState((old) => ({ ...old, isReading: true, retryAt: null }));
      const delay = await readOnce();
      isReading = false;
      if (delay !== null && !abort.signal.aborted) {
        timer = setTimeout(poll, delay);
      }
    }

    const show = (data) => {
      if (!abort.signal.aborted) {
        setState({ keyText, data, error: null, readAt: Date.now(), isReading: true, retryAt: null });
      }
    };

    async function readOnce() {
      try {
        const data = await read(JSON.parse(keyText), abort.signal, show);
        failures.current = 0;
        setState({ keyText, data, error: null, readAt: Date.now(), isReading: false, retryAt: null });
        return data.isFinal && Date.now() >= stirredUntil ? idleInterval : INTERVAL;
      } catch (error) {
        if (abort.signal.aborted) {
          return null;
        }
        failures.current += 1;
        const isFinal = FINAL_STATUSES.includes(error.status);
        const delay = isFinal ? null : Math.min(INTERVAL * 2 ** failures.current, MAX_INTERVAL);
        const retryAt = isFinal ? null : Date.now() + delay;
        setState((old) => ({ ...old, error, isReading: false, retryAt }));
        return delay;
      }
    }

    // Whoever comes back to the page sees the newest data, also of a task that was cleared meanwhile.
    function onVisibilityChange() {
      if (!document.hidden) {
        void poll();
      }
    }

    setState((old) => (old.keyText === keyText ? old : initialState(key)));
    const channel = new BroadcastChannel(CHANNEL);
    channel.onmessage = () => {
      stirredUntil = Date.now() + STIRRED;
      void poll();
    };
    document.addEventListener("visibilitychange", onVisibilityChange);
    void poll();
    return () => {
      abort.abort();
      channel.close();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisibilityChange);
    };
  }, [keyText, attempt]);

  const refresh = useCallback(() => setAttempt((number) => number + 1), []);
  // Until the effect has run, the state may still be that of another task instance.
  return [state.keyText === keyText ? state : initialState(key), refresh, attempt];
}

/** Returns the time in milliseconds, and renders again every second while the page is visible. */
export function useNow(isActive = true) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!isActive) {
      return undefined;
    }
    const timer = setInterval(() => {
      if (!document.hidden) {
        setNow(Date.now());
      }
    }, 1000);
    return () => clearInterval(timer);
  }, [isActive]);
  return now;
}

/**
 * Returns the present time on AWS's clock, as far as it is known, for the durations of what runs.
 *
 * After the end of the task, nobody observes the execution, so the time stands still at the last observation, or where
 * it was when the tab has seen that end.
 */
export function useExecutionTime({ task, execution, clockOffset }) {
  const { arn, state } = execution.run;
  const isLive = !task.isEnded && state === "Running";
  const now = useNow(isLive) + clockOffset;
  const shown = useRef({ arn: null, time: 0 });
  const ahead = clockAhead(execution);
  if (!task.isEnded) {
    shown.current = { arn, time: now + ahead };
    return now + ahead;
  }
  const earlier = shown.current.arn === arn ? shown.current.time : 0;
  return Math.max((lastObserved(task, execution) ?? now) + ahead, earlier);
}

/** Returns when the task has stored something about the execution last, in milliseconds; null if that is not known. */
export function lastWrite({ runWrittenAt, stepsWrittenAt }) {
  return Math.max(runWrittenAt ?? 0, stepsWrittenAt ?? 0) || null;
}

function initialState(key) {
  return {
    keyText: JSON.stringify(key),
    data: null,
    error: null,
    readAt: null,
    isReading: true,
    retryAt: null,
  };
}
