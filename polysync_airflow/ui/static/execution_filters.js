// The filters of the page with all executions, which are in the query string of its address.
import { SHOWN_STATES } from "./execution.js";
import { readChoice, readText } from "./validation.js";

const TEXT = 256;
const HOUR = 3_600_000;
const SINCE = { "1h": HOUR, "24h": 24 * HOUR, "7d": 7 * 24 * HOUR, "30d": 30 * 24 * HOUR };

/** Returns the filters of a query string; what is invalid is left out. */
export function readFilters(query) {
  const offset = query.get("offset") ?? "";
  return {
    state: readChoice(query.get("state"), SHOWN_STATES, ""),
    // A backslash at the end of a pattern is an error in some databases.
    dag: readText(query.get("dag"), TEXT)?.replaceAll("\\", "") ?? "",
    pipeline: readText(query.get("pipeline"), TEXT) ?? "",
    parameter: readText(query.get("parameter"), TEXT) ?? "",
    since: readChoice(query.get("since"), Object.keys(SINCE), ""),
    offset: /^\d{1,7}$/.test(offset) ? Number(offset) : 0,
  };
}

/** Returns whether only XComs answer some of the filters. */
export function needsXComs({ state, pipeline, parameter }) {
  return [state, pipeline, parameter].some((text) => text !== "");
}

/** Returns the members of a query string that `readFilters` reads. */
export function writeFilters(filters) {
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== "" && value !== 0));
}

/** Returns when the time of the filter `since` has begun, in ISO 8601; null for any time. */
export function startOf(since) {
  return since === "" ? null : new Date(Date.now() - SINCE[since]).toISOString();
}
