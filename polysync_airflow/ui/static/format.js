// Texts for numbers, durations and times.

// Where Airflow's UI keeps the time zone that a person has chosen.
const TIME_ZONE_KEY = "timezone";

/** Returns a duration such as "45 s", "3 min 20 s" or "2 h 5 min". */
export function formatSeconds(seconds) {
  if (seconds === null) {
    return "";
  }
  if (seconds < 1) {
    return seconds === 0 ? "0 s" : "< 1 s";
  }
  const whole = Math.round(seconds);
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([number]) => number > 0);
  return parts
    .slice(first, first + 2)
    .filter(([number]) => number > 0)
    .map(([number, unit]) => `${number} ${unit}`)
    .join(" ");
}

/** Returns an amount of money such as "1.04 USD", or "" if there is none. */
export function formatCost(cost) {
  return cost === null ? "" : `${formatAmount(cost)} ${cost.currency}`;
}

function formatAmount({ amount }) {
  return amount > 0 && amount < 0.01 ? "< 0.01" : amount.toFixed(2);
}

/** Returns what runs cost, such as "last 3 successful runs: 12.10 to 14.00 USD"; null without any. */
export function formatEarlierCosts(costs) {
  // Amounts in another currency, from before a change of the prices, cannot be compared.
  const amounts = costs.filter(({ currency }) => currency === costs[0].currency).sort((a, b) => a.amount - b.amount);
  if (amounts.length === 0) {
    return null;
  }
  const which = amounts.length === 1 ? "last successful run" : `last ${amounts.length} successful runs`;
  const least = formatAmount(amounts[0]);
  const highest = amounts.at(-1);
  const range = least === formatAmount(highest) ? "" : `${least} to `;
  return `${which}: ${range}${formatCost(highest)}`;
}

/** Returns a number with at most so many digits that count, such as "0.918273" or "1.5e+30"; an integer with all. */
export function formatNumber(number, digits = 6) {
  if (Number.isSafeInteger(number)) {
    return String(number);
  }
  return String(Number(number.toPrecision(digits)));
}

/** Returns a time in the time zone of Airflow's UI, such as "2026-03-01 14:05:09 UTC". */
export function formatTime(milliseconds) {
  if (milliseconds === null) {
    return "";
  }
  const zone = timeZone();
  const parts = new Map(
    new Intl.DateTimeFormat("en-CA", {
      timeZone: zone,
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      hourCycle: "h23",
      timeZoneName: "short",
    })
      .formatToParts(milliseconds)
      .map(({ type, value }) => [type, value]),
  );
  const [date, time] = [
    ["year", "month", "day"],
    ["hour", "minute", "second"],
  ].map((names) => names.map((name) => parts.get(name)));
  return `${date.join("-")} ${time.join(":")} ${parts.get("timeZoneName")}`;
}

/** Returns the time of a day, such as "14:00:00 UTC". */
export function formatClock(milliseconds) {
  return formatTime(milliseconds).split(" ").slice(1).join(" ");
}

function timeZone() {
  try {
    const chosen = (localStorage.getItem(TIME_ZONE_KEY) ?? "UTC").replaceAll('"', "");
    new Intl.DateTimeFormat("en", { timeZone: chosen }); // raises an error if the browser does not know it
    return chosen;
  } catch {
    return "UTC";
  }
}

const TICK_STEPS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800,
];
const MAX_TICKS = 6;
const LAST_TICK = 0.93;

/** Returns the marks of a time axis as pairs of a position (0 to 1) and a text. */
export function axisTicks(span) {
  const seconds = (span.end - span.start) / 1000;
  const step =
    TICK_STEPS.find((each) => seconds / each <= MAX_TICKS) ?? Math.ceil(seconds / MAX_TICKS / 86400) * 86400;
  const ticks = [];
  // A text that begins near the end would be cut.
  for (let at = 0; at <= seconds * LAST_TICK; at += step) {
    ticks.push([at / seconds, formatSeconds(at)]);
  }
  return ticks;
}
