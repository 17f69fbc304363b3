// A line chart of one value over several runs. The shapes are SVG; the texts are HTML, so that they keep their size.
import { h } from "./components.js";
import { axisTicks, formatNumber } from "./format.js";

const HEIGHT = 140;
// Room for the points at the edges.
const MARGIN = 12;
const RADIUS = 4;
const TICKS = 4;
const NICE_STEPS = [1, 2, 2.5, 5, 10];
// Enough to tell two ticks apart, and too few to show errors of rounding.
const TICK_DIGITS = 9;
const SMALLEST = 1e-290;
const SMALLEST_SHARE = 1e-7;

/**
 * The chart. Screen readers get its name; the values are in a table beside it.
 *
 * @param {{value: number|null, isThis: boolean, title: string, label: string}[]} points one for each run, the newest
 *   last, at least two with a value; `title` is shown under the pointer, `label` below the axis
 * @param {{isTime: boolean}} series whether the values are durations in seconds
 * @param {string} name the name of the chart
 */
export function Chart({ points, series, name }) {
  const placed = place(points);
  const scale = series.isTime ? timeScale(placed) : numberScale(placed);
  const top = (value) => MARGIN + (1 - scale.position(value)) * (HEIGHT - 2 * MARGIN);
  const ticks = scale.ticks.map(([value, text]) => ({ text, top: top(value) }));
  const widest = ticks.reduce((found, { text }) => (text.length > found.length ? text : found), "");
  return h(
    "div",
    { className: "psm-chart", role: "img", "aria-label": name },
    h(
      "div",
      { className: "psm-chart-values" },
      h("span", { className: "psm-chart-widest" }, widest),
      ticks.map((tick, index) => h("span", { key: index, style: { top: tick.top } }, tick.text)),
    ),
    h(
      "svg",
      { width: "100%", height: HEIGHT },
      ticks.map((tick, index) =>
        h("line", { key: index, className: "psm-chart-grid", x1: 0, x2: "100%", y1: tick.top, y2: tick.top }),
      ),
      placed
        .slice(1)
        .map((point, index) => h(Segment, { key: point.index, from: placed[index], to: point, top })),
      placed.map((point) => h(Point, { key: point.index, point, y: top(point.value) })),
    ),
    h(
      "div",
      { className: "psm-chart-runs" },
      h("span", null, placed[0].label),
      h("span", null, placed.at(-1).label),
    ),
  );
}

/** Returns the points that have a value, with their place from left to right in percent. */
function place(points) {
  const width = 100 / points.length;
  return points
    .map((point, index) => ({ ...point, index, x: (index + 0.5) * width }))
    .filter(({ value }) => value !== null);
}

function Segment({ from, to, top }) {
  const ends = { x1: `${from.x}%`, y1: top(from.value), x2: `${to.x}%`, y2: top(to.value) };
  return h("line", { className: "psm-chart-line", ...ends });
}

// This run has another shape, and not only another colour.
function Point({ point, y }) {
  const x = `${point.x}%`;
  return h(
    "g",
    { className: "psm-chart-point" },
    h("title", null, point.title),
    point.isThis && h("circle", { cx: x, cy: y, r: 2 * RADIUS, className: "psm-chart-ring" }),
    h("circle", { cx: x, cy: y, r: RADIUS }),
    // Easier to hit with the pointer.
    h("circle", { cx: x, cy: y, r: 3 * RADIUS, className: "psm-chart-target" }),
  );
}

/** Durations begin at 0, so that their heights can be compared. */
function timeScale(placed) {
  const end = Math.max(1, ...placed.map(({ value }) => value));
  const ticks = axisTicks({ start: 0, end: end * 1000 }).map(([at, text]) => [at * end, text]);
  return { ticks, position: (value) => value / end };
}

/** Other numbers begin near the smallest one: the differences of metrics are small. */
function numberScale(placed) {
  const values = placed.map(({ value }) => value);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const size = Math.max(Math.max(Math.abs(least), Math.abs(most)) || 1, SMALLEST);
  // Numbers that differ in their last digits only are drawn as equal.
  const room = most - least > size * SMALLEST_SHARE ? 0 : size / 2;
  const step = niceStep((most - least + 2 * room) / TICKS);
  const first = Math.floor((least - room) / step);
  const last = Math.ceil((most + room) / step);
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
  return {
    ticks: ticks.map((value) => [value, formatNumber(value, TICK_DIGITS)]),
    position: (value) => (value / step - first) / (last - first),
  };
}

/** Returns the smallest round number that is not less than a positive number. */
function niceStep(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return (NICE_STEPS.find((each) => each * power >= number) ?? 10) * power;
}
