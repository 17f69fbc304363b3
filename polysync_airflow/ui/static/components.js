// The small parts of the tab. All texts are children of React elements, so the browser never reads them as markup.
import { formatSeconds } from "./format.js";
import { consoleLink } from "./validation.js";

const { createElement, useEffect, useState } = globalThis.React;

const LABELS = {
  NotStarted: "Not started",
  NotListed: "Not listed yet",
  NotTaken: "Not taken",
  NotSelected: "Not selected",
};
// Shapes, so that states differ for people who cannot tell the colours apart.
const ICONS = {
  NotStarted: "○",
  NotListed: "…",
  NotTaken: "–",
  NotSelected: "–",
  Running: "▶",
  Stopping: "□",
  Waiting: "…",
  Success: "✓",
  Failed: "✕",
  Cancelled: "■",
  Unknown: "?",
};

/** Creates an element with children, without a list of keys. */
export function h(type, props, ...children) {
  return createElement(type, props, ...children);
}

/** A state in its colour, with an icon and a text. */
export function StateBadge({ state, isLarge = false }) {
  const className = `psm-badge psm-state-${state}${isLarge ? " psm-badge-large" : ""}`;
  const icon = h("span", { "aria-hidden": true, className: "psm-badge-icon" }, ICONS[state]);
  return h("span", { className }, icon, LABELS[state] ?? state);
}

/** A state as an icon in its colour, with its text for whoever cannot see it. */
export function StateIcon({ state }) {
  const label = LABELS[state] ?? state;
  const props = { className: `psm-icon psm-state-${state}`, role: "img", "aria-label": label, title: label };
  return h("span", props, ICONS[state]);
}

/** A short remark about a step, such as "cache hit". */
export function Mark({ children, title }) {
  return h("span", { className: "psm-mark", title }, children);
}

/** A button that copies a text, and says whether it could. */
function CopyButton({ text, label }) {
  const [result, setResult] = useState(null);
  useEffect(() => {
    const timer = result === null ? null : setTimeout(() => setResult(null), 2000);
    return () => clearTimeout(timer);
  }, [result]);
  const onClick = async () => setResult((await copy(text)) ? "Copied" : "Copy failed");
  return h(
    "button",
    {
      type: "button",
      className: "psm-button psm-button-small",
      onClick,
      "aria-label": result ?? label,
      title: label,
    },
    h("span", { "aria-live": "polite" }, result ?? "Copy"),
  );
}

async function copy(text) {
  try {
    // Browsers offer this on https pages and on localhost only.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.setAttribute("readonly", "");
  field.style.position = "fixed";
  field.style.opacity = "0";
  const focused = document.activeElement;
  document.body.append(field);
  try {
    field.select();
    return document.execCommand("copy");
  } finally {
    field.remove();
    focused?.focus();
  }
}

/** A link to the AWS console; any other URL is shown as text. */
export function ConsoleLink({ url, children, className = "psm-link" }) {
  const href = consoleLink(url);
  if (href === null) {
    return h("span", { className: "psm-code" }, url);
  }
  const props = { href, target: "_blank", rel: "noopener noreferrer", className };
  return h("a", props, children, h("span", { "aria-hidden": true }, " ↗"));
}

/** An ARN in a monospaced font, with a button that copies it. */
export function Arn({ arn, label }) {
  return h(
    "span",
    { className: "psm-arn" },
    h("code", { className: "psm-code" }, arn),
    h(CopyButton, { text: arn, label }),
  );
}

/** A message in a frame: `info`, `warning` or `error`. */
export function Notice({ kind, title, children, action }) {
  return h(
    "div",
    { className: `psm-notice psm-notice-${kind}`, role: kind === "error" ? "alert" : "status" },
    h(
      "div",
      { className: "psm-notice-text" },
      title && h("strong", null, title),
      children && h("div", null, children),
    ),
    action,
  );
}

/**
 * A button; `kind` is `primary` for one that stands out, `danger` for one that destroys something. Other properties are
 * those of the element.
 */
export function Button({ children, isDisabled = false, kind = null, ...props }) {
  const className = kind === null ? "psm-button" : `psm-button psm-button-${kind}`;
  return h("button", { type: "button", className, disabled: isDisabled, ...props }, children);
}

/** A heading that shows or hides what is below it. */
export function Disclosure({ id, title, children, isOpenAtFirst = false }) {
  const [isOpen, setOpen] = useState(isOpenAtFirst);
  const props = {
    type: "button",
    className: "psm-disclosure",
    "aria-expanded": isOpen,
    "aria-controls": id,
    onClick: () => setOpen(!isOpen),
  };
  return h(
    "div",
    null,
    h("button", props, h(Chevron, { isOpen }), title),
    h("div", { id, hidden: !isOpen }, isOpen && children),
  );
}

/** The sign of something that can be opened. */
export function Chevron({ isOpen }) {
  return h(
    "span",
    { "aria-hidden": true, className: `psm-chevron${isOpen ? " psm-chevron-open" : ""}` },
    "›",
  );
}

/** A table of names and values. */
export function ValueTable({ rows, label }) {
  return h(
    "table",
    { className: "psm-table", "aria-label": label },
    h(
      "tbody",
      null,
      rows.map(([name, value], index) =>
        h("tr", { key: index }, h("th", { scope: "row" }, name), h("td", { className: "psm-code" }, value)),
      ),
    ),
  );
}

/** The names of the columns of a table. */
export function HeaderRow({ columns }) {
  return h(
    "tr",
    null,
    columns.map((name) => h("th", { key: name, scope: "col" }, name)),
  );
}

/** A name with a value below it, as Airflow shows them in the headers of its pages. */
export function Stat({ label, children }) {
  return h("div", { className: "psm-stat" }, h("dt", null, label), h("dd", null, children));
}

/** For how long an execution has run: from its start, and since its last resume. */
export function Duration({ run, durations: { total, sinceResume } }) {
  const resumed = `since resume ${run.resumes}: ${formatSeconds(sinceResume)}`;
  return [
    formatSeconds(total) || "–",
    sinceResume !== null && h("div", { key: "resumed", className: "psm-muted" }, resumed),
  ];
}
