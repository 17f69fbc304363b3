// The summary above the executions: by pipeline, how many there were in the time of the filters, how many have failed,
// how long they took, and what they cost. ui/summary.py computes it.
import { send } from "./airflow_api.js";
import { Button, h, HeaderRow } from "./components.js";
import { startOf } from "./execution_filters.js";
import { formatCost, formatSeconds } from "./format.js";
import { property, readEntries, readInteger, readList, readNumber, readText } from "./validation.js";

const { useEffect, useState } = globalThis.React;

const PATH = "polysync-sagemaker/executions-summary";
// The same limits are in ui/summary.py.
const MAX_PIPELINES = 50;
const MAX_DAYS = 31;
const MAX_CURRENCIES = 3;
const MAX_COUNT = 1_000_000;
const MAX_NUMBER = 1e12;
const NAME = 256;
// The others are shown on demand.
const SHOWN = 5;
const MINUTE = 60_000;
const DAY = 86_400_000;
const BAR = 6;
const HEIGHT = 20;
const WAITING = "The summary comes later: others ask for one, or Airflow's database is slow. It is asked for again.";
// A summary that others ask for, too, is asked for again after twice as long each time, at most.
const MAX_DELAY = 60_000;
const NOTHING = { pipelines: [], leftOut: [] };
const COLUMNS = ["Pipeline", "Executions", "Failed", "Median duration", "Estimated cost"];

/**
 * The summary. It is read after the executions, again if the filters change, when somebody asks for it, and with the
 * executions if it is older than a minute, so that it has those that have ended since.
 */
export function Summary({ filters, setFilters, refreshes, readAt, isReady }) {
  const { since, dag, pipeline } = filters;
  const [turn, setTurn] = useState(0);
  const id = JSON.stringify([since, dag, refreshes, turn]);
  const [found, setFound] = useState({ id: null, at: null, ...NOTHING });
  const [isWaiting, setWaiting] = useState(false);
  const [isWhole, setWhole] = useState(false);
  // The executions come first, and not each of their refreshes needs a new summary.
  const [readyId, setReadyId] = useState(null);
  if (isReady && readyId !== id) {
    setReadyId(id);
  }
  if (found.id === id && readAt - found.at > MINUTE) {
    setTurn(turn + 1);
  }
  useEffect(() => {
    if (readyId !== id) {
      return undefined;
    }
    const abort = new AbortController();
    const onEnd = (summary) => {
      if (!abort.signal.aborted) {
        setWaiting(false);
        setFound({ id, at: Date.now(), ...summary });
      }
    };
    // It is an extra: what stops the executions from being read is said there.
    readPatiently(since, dag, abort.signal, () => setWaiting(true)).then(onEnd, () => onEnd(NOTHING));
    return () => abort.abort();
  }, [readyId, id]);
  const matching = found.pipelines.filter(({ name }) => name.toLowerCase().includes(pipeline.toLowerCase()));
  const note = isWaiting && h("p", { role: "status", className: "psm-muted" }, WAITING);
  if (matching.length === 0) {
    const leftOut = found.pipelines.length === 0 && h(NotShown, { parts: found.leftOut });
    return note || leftOut;
  }
  const shown = isWhole ? matching : matching.slice(0, SHOWN);
  const all = `Show all ${matching.length} pipelines`;
  const hidden = [...describeHidden(matching.slice(shown.length)), ...found.leftOut];
  const days = daysOf(found.pipelines);
  const period = days.length > 1 ? `${days[0]} to ${days.at(-1)}` : days[0];
  return h(
    "section",
    { className: "psm-card psm-summary", "aria-label": "Summary" },
    h(
      "table",
      { className: "psm-table psm-table-wide", "aria-label": "Executions by pipeline" },
      h("thead", null, h(HeaderRow, { columns: [...COLUMNS, `By day, ${period} (UTC)`] })),
      h("tbody", null, shown.map((each) => h(PipelineRow, { key: each.name, pipeline: each, days, setFilters }))),
    ),
    matching.length > SHOWN && h(Button, { onClick: () => setWhole(!isWhole) }, isWhole ? "Show fewer" : all),
    h(NotShown, { parts: hidden }),
    note,
  );
}

/** Returns what is behind the button: pipelines with fewer failures, or of equal failures the cheaper ones. */
function describeHidden(pipelines) {
  if (pipelines.length === 0) {
    return [];
  }
  const failing = pipelines.filter(({ failures }) => failures > 0).length;
  const which = failing === 0 ? "without failures" : "with fewer failures or lower costs";
  return [`${pipelines.length} pipelines ${which}`];
}

/** Says in one sentence what the summary does not show. */
function NotShown({ parts }) {
  return parts.length > 0 && h("span", { className: "psm-muted" }, `Not shown: ${parts.join("; ")}.`);
}

function PipelineRow({ pipeline, days, setFilters }) {
  const { name, runs, failures, medianSeconds, costs } = pipeline;
  const filterBy = (label, text, state) => {
    const onClick = () => setFilters({ pipeline: name, state });
    return h("button", { type: "button", className: "psm-link-button", "aria-label": label, onClick }, text);
  };
  return h(
    "tr",
    null,
    h("th", { scope: "row" }, filterBy(`${name}: show its executions`, name, "")),
    h("td", null, runs),
    h("td", null, failures === 0 ? "0" : filterBy(`${failures}: show those of ${name}`, failures, "Failed")),
    h("td", null, formatSeconds(medianSeconds) || "–"),
    h("td", null, costs.map(formatCost).join(", ") || "–"),
    h("td", null, h(Bars, { pipeline, days })),
  );
}

/** A bar for each day: how many executions have started, and how many of them failed. */
function Bars({ pipeline, days }) {
  const most = Math.max(1, ...[...pipeline.days.values()].map(({ runs }) => runs));
  const texts = [];
  const bars = days.map((day, index) => {
    const { runs = 0, failed = 0 } = pipeline.days.get(day) ?? {};
    if (runs === 0) {
      return null;
    }
    const text = `${day}: ${runs}${failed > 0 ? `, ${failed} failed` : ""}`;
    texts.push(text);
    const height = (count) => Math.max(count === 0 ? 0 : 2, (count / most) * HEIGHT);
    const place = { x: index * BAR, width: BAR - 1 };
    return h(
      "g",
      { key: day },
      h("title", null, text),
      h("rect", { ...place, y: HEIGHT - height(runs), height: height(runs), className: "psm-day" }),
      h("rect", { ...place, y: HEIGHT - height(failed), height: height(failed), className: "psm-day-failed" }),
    );
  });
  const size = { width: days.length * BAR, height: HEIGHT };
  return h("svg", { ...size, role: "img", "aria-label": `Executions by day: ${texts.join("; ")}` }, bars);
}

/** Returns all days from the first to the last one with an execution, of which the last ones are shown. */
function daysOf(pipelines) {
  const times = pipelines.flatMap(({ days }) => [...days.keys()].map((day) => Date.parse(day)));
  const last = Math.max(...times);
  const first = Math.max(Math.min(...times), last - (MAX_DAYS - 1) * DAY);
  const days = [];
  for (let time = first; time <= last; time += DAY) {
    days.push(new Date(time).toISOString().slice(0, 10));
  }
  return days;
}

/** Reads the summary, again and again for as long as the server has no time for it; `onDelay` is called before. */
async function readPatiently(since, dag, signal, onDelay) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await readSummary(since, dag, signal);
    } catch (error) {
      if (signal.aborted || !error.retryAfter) {
        throw error;
      }
      onDelay();
      // Not all at the same time.
      const delay = error.retryAfter * 1000 * 2 ** attempt * (1 + Math.random());
      await new Promise((resolve) => setTimeout(resolve, Math.min(delay, MAX_DELAY)));
    }
  }
}

async function readSummary(since, dag, signal) {
  const start = startOf(since);
  const query = new URLSearchParams({ dag, ...(start !== null && { since: start }) });
  const { body } = await send(`${PATH}?${query}`, { signal });
  const pipelines = readList(property(body, "pipelines"), MAX_PIPELINES)
    .map(readPipeline)
    .filter(({ name, days }) => name !== null && days.size > 0);
  return { pipelines, leftOut: describeLeftOut(body) };
}

function describeLeftOut(body) {
  const newest = readInteger(property(body, "newest_only"), 1, MAX_COUNT);
  const more = readInteger(property(body, "more_pipelines"), 1, MAX_COUNT);
  const unread = readInteger(property(body, "left_out"), 1, MAX_COUNT);
  return [
    more !== null && `${more} more pipelines with fewer failures or lower costs`,
    unread !== null && `${unread.toLocaleString("en")} executions whose XComs “run” are too large`,
    newest !== null && `executions before the newest ${newest.toLocaleString("en")}`,
  ].filter(Boolean);
}

function readPipeline(value) {
  const count = (counted) => readInteger(counted, 0, MAX_COUNT) ?? 0;
  return {
    name: readText(property(value, "name"), NAME),
    runs: count(property(value, "runs")),
    failures: count(property(value, "failures")),
    medianSeconds: readNumber(property(value, "median_seconds"), 0, MAX_NUMBER),
    costs: readEntries(property(value, "costs"), MAX_CURRENCIES).map(([currency, amount]) => ({
      currency: readText(currency, 3) ?? "",
      amount: readNumber(amount, 0, MAX_NUMBER) ?? 0,
    })),
    days: new Map(
      readEntries(property(value, "days"), MAX_DAYS)
        .filter(([day]) => /^\d{4}-\d\d-\d\d$/.test(day))
        .map(([day, counts]) => [day, { runs: count(counts?.[0]), failed: count(counts?.[1]) }]),
    ),
  };
}
