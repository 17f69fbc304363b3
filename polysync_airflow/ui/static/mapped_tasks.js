// What the tab shows on the page of a mapped task without a map index.
import { pageOf } from "./airflow_api.js";
import { h, HeaderRow } from "./components.js";

/** Links to the tabs of the instances, with the states of their tasks. */
export function Instances({ keyText, instances, total, action }) {
  const key = JSON.parse(keyText);
  const more = total - instances.length;
  return h(
    "section",
    { className: "psm-card", "aria-label": "Mapped task instances" },
    h(
      "div",
      { className: "psm-title" },
      h("h2", null, `This task is mapped: ${total} task ${total === 1 ? "instance" : "instances"}`),
      h("span", { className: "psm-spacer" }),
      action,
    ),
    h(
      "table",
      { className: "psm-table psm-table-wide", "aria-label": "Mapped task instances" },
      h("thead", null, h(HeaderRow, { columns: ["Map index", "State of the task"] })),
      h(
        "tbody",
        null,
        instances.map(({ mapIndex, name, state }) => {
          const href = new URL(pageOf({ ...key, mapIndex }), document.baseURI).href;
          const link = h("a", { href, className: "psm-link" }, name ?? mapIndex);
          return h("tr", { key: mapIndex }, h("th", { scope: "row" }, link), h("td", null, state ?? "no status"));
        }),
      ),
    ),
    more > 0 && h("p", { className: "psm-muted" }, `${more} more are in Airflow's list of the task instances.`),
  );
}
