// The end of a task's log, for a tab that has nothing else to show: its last error, and a link to the log.
import { send, taskPageOf, unmappedPathOf } from "./airflow_api.js";
import { h } from "./components.js";
import { property, readList, readText } from "./validation.js";

const { useEffect, useState } = globalThis.React;

// A longer log is not searched.
const MAX_LOG = 2_000_000;
const MAX_ENTRIES = 20_000;
const MAX_ERROR = 1300;
const ERROR_LEVELS = ["error", "critical"];

/** The last error in the log of a try, if there is one, and a link to the log. */
export function EndOfLog({ keyText, tryNumber }) {
  const [error, setError] = useState(null);
  useEffect(() => {
    const abort = new AbortController();
    // Without permission, or with a log that was deleted, there is still the link.
    readLastError(JSON.parse(keyText), tryNumber, abort.signal).then(setError, () => {});
    return () => abort.abort();
  }, [keyText, tryNumber]);
  const href = new URL(`${taskPageOf(JSON.parse(keyText))}?try_number=${tryNumber}`, document.baseURI).href;
  return [
    error !== null && h("div", { key: "error", className: "psm-reason" }, error),
    h("div", { key: "link" }, h("a", { href, className: "psm-link" }, "Log of the task")),
  ];
}

/** Returns the text of the last error in the log of a try; null if it has none. */
async function readLastError(key, tryNumber, signal) {
  const query = new URLSearchParams({ full_content: true, map_index: key.mapIndex });
  const { body } = await send(`${unmappedPathOf(key)}/logs/${tryNumber}?${query}`, { signal, maxLength: MAX_LOG });
  const errors = readList(property(body, "content"), MAX_ENTRIES).filter((entry) =>
    ERROR_LEVELS.includes(property(entry, "level")),
  );
  return errors.length === 0 ? null : describeError(errors.at(-1));
}

function describeError(entry) {
  const [raised] = readList(property(entry, "error_detail"), 1);
  const type = readText(property(raised, "exc_type"), MAX_ERROR);
  const value = readText(property(raised, "exc_value"), MAX_ERROR);
  return type === null ? readText(property(entry, "event"), MAX_ERROR) : `${type}: ${value ?? ""}`;
}
