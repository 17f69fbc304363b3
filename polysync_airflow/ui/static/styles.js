// The styles of the tab. The colours are variables of Airflow's theme, so they follow its light and dark mode and
// themes of the deployment. The values after the commas are only used if a version of Airflow has no such variable.
// The states Running and Cancelled are darker than in Airflow, whose white has too little contrast for a small text.
export const STYLES = `
.psm {
  --psm-border: var(--chakra-colors-border-emphasized, #a1a1aa66);
  --psm-muted: var(--chakra-colors-fg-muted, #71717a);
  --psm-subtle: var(--chakra-colors-bg-muted, #8888881a);
  --psm-link: var(--chakra-colors-fg-info, #2563eb);
  container-type: inline-size;
  display: flex; flex-direction: column; gap: 0.75rem;
  padding: 0.5rem 0.25rem 2rem; font-size: 0.875rem; line-height: 1.35; text-align: left;
  color: var(--chakra-colors-fg, inherit);
}
.psm-state-Waiting, .psm-state-NotStarted, .psm-state-NotListed, .psm-state-NotTaken, .psm-state-NotSelected { --psm-bg: var(--psm-subtle); --psm-fg: var(--psm-muted); }
.psm-state-Running { --psm-bg: var(--chakra-colors-cyan-700, #0e7490); --psm-fg: #fff; }
.psm-state-Success { --psm-bg: var(--chakra-colors-success-solid, #15803d); --psm-fg: var(--chakra-colors-success-contrast, #fff); }
.psm-state-Failed { --psm-bg: var(--chakra-colors-failed-solid, #b91c1c); --psm-fg: var(--chakra-colors-failed-contrast, #fff); }
.psm-state-Stopping, .psm-state-Cancelled { --psm-bg: var(--chakra-colors-orange-700, #92310a); --psm-fg: #fff; }
.psm-state-Unknown { --psm-bg: var(--chakra-colors-none-solid, #52525b); --psm-fg: var(--chakra-colors-none-contrast, #fff); }
.psm-card { border: 1px solid var(--psm-border); border-radius: 8px; padding: 0.75rem 1rem; }
.psm-title { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 0.75rem; }
.psm-title h2 { font-size: 1.125rem; font-weight: 600; margin: 0; }
.psm-spacer { flex: 1; }
.psm-name { overflow-wrap: anywhere; }
.psm-stats { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; margin: 0.75rem 0; }
.psm-stat dt, .psm-detail dt { color: var(--psm-muted); font-size: 0.75rem; font-weight: 600; }
.psm-stat dd, .psm-detail dd { margin: 0; }
.psm-next { margin-top: 0.5rem; overflow-wrap: anywhere; }
.psm-line { margin: 0.5rem 0; }
.psm-footer { display: flex; flex-wrap: wrap; align-items: flex-start; justify-content: space-between; gap: 0.5rem; }
.psm-muted { color: var(--psm-muted); font-size: 0.75rem; font-variant-numeric: tabular-nums; }
.psm-code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 0.8125rem; overflow-wrap: anywhere; }
.psm-arn { display: flex; flex-wrap: wrap; align-items: center; gap: 0.25rem 0.5rem; }
.psm-stack { display: flex; flex-direction: column; gap: 0.25rem; }
.psm-badge {
  display: inline-flex; align-items: center; gap: 0.3rem; padding: 0 0.5rem; border-radius: 999px;
  background: var(--psm-bg); color: var(--psm-fg); font-size: 0.75rem; font-weight: 500; line-height: 1.375rem; white-space: nowrap;
}
.psm-badge-large { font-size: 0.875rem; line-height: 1.75rem; padding: 0 0.75rem; }
.psm-badge-icon { font-size: 0.7em; }
.psm-mark { border: 1px solid var(--psm-border); border-radius: 4px; padding: 0 0.3rem; font-size: 0.6875rem; overflow-wrap: anywhere; }
.psm-marks { display: inline-flex; flex-wrap: wrap; gap: 0.25rem; max-width: 100%; }
.psm-link { color: var(--psm-link); text-decoration: none; }
.psm-link:hover { text-decoration: underline; }
.psm-button {
  border: 1px solid var(--psm-border); border-radius: 4px; padding: 0.25rem 0.75rem; background: transparent; color: inherit;
  font: inherit; font-weight: 500; cursor: pointer; text-decoration: none; white-space: nowrap;
}
.psm-button:hover { background: var(--psm-subtle); }
.psm-button:disabled { opacity: 0.5; cursor: default; }
.psm-button-primary { background: var(--chakra-colors-info-solid, #2563eb); border-color: transparent; color: #fff; }
.psm-button-primary:hover { background: var(--chakra-colors-info-solid, #2563eb); filter: brightness(1.1); }
.psm-actions, .psm-question { display: flex; flex-direction: column; gap: 0.625rem; }
.psm-action { display: grid; grid-template-columns: 12.5rem minmax(0, 1fr); align-items: center; gap: 0.375rem 1rem; }
.psm-action .psm-button { justify-self: stretch; }
.psm-question:focus, .psm-result:focus { outline: none; }
.psm-answers { display: flex; flex-wrap: wrap; gap: 0.5rem; }
.psm-button-danger { background: var(--chakra-colors-danger-solid, #b91c1c); border-color: transparent; color: var(--chakra-colors-danger-contrast, #fff); }
.psm-button-danger:hover { background: var(--chakra-colors-danger-solid, #b91c1c); filter: brightness(1.1); }
.psm-button-small { padding: 0 0.4rem; font-size: 0.75rem; }
.psm :is(button, a, pre, select):focus-visible { outline: 2px solid var(--psm-link); outline-offset: 1px; }
.psm-disclosure { display: flex; align-items: center; gap: 0.25rem; background: none; border: 0; padding: 0; font: inherit; font-weight: 500; color: inherit; cursor: pointer; }
.psm-chevron { display: inline-block; flex: none; width: 0.875rem; text-align: center; transition: transform 0.15s; }
.psm-chevron-open { transform: rotate(90deg); }
.psm-table { border-collapse: collapse; display: block; overflow-x: auto; }
.psm-table th { text-align: left; font-weight: 500; padding: 0.125rem 1.5rem 0.125rem 0; vertical-align: top; white-space: nowrap; }
.psm-table td { padding: 0.125rem 0; white-space: pre-wrap; }
.psm-table tr + tr > * { border-top: 1px solid var(--psm-subtle); }
.psm-table-wide :is(th, td) { padding-right: 1.5rem; font-variant-numeric: tabular-nums; }
.psm-table-wide td { vertical-align: top; }
.psm-table-wide :is(th, td) { white-space: normal; }
.psm-table-wide th { overflow-wrap: anywhere; }
.psm-table-wide tbody th { min-width: 6.5rem; }
.psm-table-wide .psm-time { min-width: 6.5rem; }
.psm-table thead th { color: var(--psm-muted); font-size: 0.75rem; }
.psm-choice { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem; color: var(--psm-muted); font-size: 0.75rem; font-weight: 600; }
.psm-select {
  max-width: 100%; border: 1px solid var(--psm-border); border-radius: 4px; padding: 0.25rem 0.5rem; font: inherit; font-size: 0.875rem;
  font-weight: 400; color: var(--chakra-colors-fg, FieldText); background: var(--chakra-colors-bg, Field);
}
.psm h1 { font-size: 1.25rem; font-weight: 600; margin: 0; }
.psm-filters { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 1rem; }
.psm-filters input { width: 9.5rem; }
.psm-scroll { padding: 0; overflow-x: auto; }
.psm-executions { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.psm-executions :is(th, td) { padding: 0.25rem 0.5rem; text-align: left; vertical-align: top; font-weight: 400; }
.psm-executions thead th { color: var(--psm-muted); font-size: 0.75rem; font-weight: 600; white-space: nowrap; }
.psm-executions tbody tr { border-top: 1px solid var(--psm-border); }
.psm-executions tbody tr:hover { background: var(--psm-subtle); }
.psm-executions .psm-link { display: block; min-height: 1.5rem; line-height: 1.5rem; }
.psm-executions tbody :is(th, td) { max-width: max(10rem, 12cqi); line-height: 1.5rem; }
.psm-executions tbody td.psm-short { max-width: none; }
.psm-executions tbody :is(th, td), .psm-executions tbody :is(th, td) > :is(a, div), .psm-cut { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.psm-executions tbody tr.psm-next-row { border-top: 0; }
.psm-executions tbody .psm-next-row td { max-width: 0; padding-top: 0; overflow: visible; }
.psm-executions tbody .psm-next-row .psm-next { position: sticky; left: 0.5rem; max-width: calc(100cqi - 2rem); margin: 0; color: var(--psm-muted); font-size: 0.75rem; line-height: 1.125rem; white-space: normal; }
.psm-executions .psm-run { font-size: 0.75rem; color: var(--psm-muted); }
.psm-executions .psm-stack { gap: 0; }
.psm-executions .psm-muted { line-height: 1.125rem; }
.psm-summary { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 1rem; padding-block: 0.5rem; }
.psm-summary table { width: 100%; }
.psm-summary :is(thead th, td) { white-space: nowrap; }
.psm-summary tbody :is(th, td) { vertical-align: middle; }
.psm-summary svg { display: block; }
.psm-day { fill: var(--psm-link); }
.psm-day-failed { fill: var(--chakra-colors-failed-solid, #b91c1c); }
.psm-link-button { min-width: 1.5rem; min-height: 1.5rem; border: 0; padding: 0; background: none; color: var(--psm-link); font: inherit; text-align: left; cursor: pointer; overflow-wrap: anywhere; }
.psm-link-button:hover { text-decoration: underline; }
.psm-short { white-space: nowrap; }
.psm-chart { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 0 0.5rem; margin: 0.75rem 0 0.5rem; color: var(--psm-muted); font-size: 0.75rem; font-variant-numeric: tabular-nums; }
.psm-chart svg { display: block; color: var(--psm-link); }
.psm-chart-values { position: relative; text-align: right; white-space: nowrap; }
.psm-chart-values span { position: absolute; right: 0; transform: translateY(-50%); }
.psm-chart-values .psm-chart-widest { position: static; visibility: hidden; }
.psm-chart-runs { grid-column: 2; display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; }
.psm-chart-grid { stroke: var(--psm-border); stroke-width: 1; }
.psm-chart-line { stroke: currentColor; stroke-width: 2; }
.psm-chart-point { fill: currentColor; }
.psm-chart-ring { fill: none; stroke: currentColor; stroke-width: 2; }
.psm-chart-target { fill: transparent; }
.psm-notice { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 1rem; border-radius: 6px; padding: 0.625rem 0.875rem; border-left: 4px solid; }
.psm-notice-text { flex: 1 1 16rem; min-width: 0; overflow-wrap: anywhere; }
.psm-notice-info { background: var(--chakra-colors-bg-info, #3b82f61a); border-color: var(--chakra-colors-info-solid, #2563eb); }
.psm-notice-warning { background: var(--chakra-colors-bg-warning, #f59e0b1a); border-color: var(--chakra-colors-warning-solid, #b45309); }
.psm-notice-error { background: var(--chakra-colors-bg-error, #ef44441a); border-color: var(--chakra-colors-error-solid, #b91c1c); }
.psm-notice-text p { margin: 0.25rem 0 0; }
.psm-reason { white-space: pre-wrap; overflow-wrap: anywhere; }
.psm-timeline { padding: 0; overflow: hidden; }
.psm-steps { list-style: none; margin: 0; padding: 0; }
.psm-step { border-top: 1px solid var(--psm-border); }
.psm-row {
  display: grid; grid-template-columns: minmax(10rem, 20rem) 7rem minmax(6rem, 1fr) 5.5rem; align-items: center; gap: 0 0.75rem;
  width: 100%; padding: 0.375rem 1rem; text-align: left;
}
.psm-row-button { border: 0; background: none; color: inherit; font: inherit; cursor: pointer; }
.psm-row-button:hover { background: var(--psm-subtle); }
.psm-row-button:focus-visible { outline-offset: -2px; }
.psm-axis { border: 0; padding-block: 0.375rem; color: var(--psm-muted); font-size: 0.75rem; }
.psm-axis-title { font-weight: 600; }
.psm-axis .psm-track { height: 1rem; }
.psm-tick { position: absolute; white-space: nowrap; padding-left: 0.25rem; border-left: 1px solid var(--psm-border); font-variant-numeric: tabular-nums; }
.psm-pause { position: absolute; top: 0; bottom: 0; width: 0.5rem; border-inline: 1px dashed var(--psm-muted); transform: translateX(-50%); }
.psm-step-name { display: flex; align-items: center; gap: 0.25rem; min-width: 0; }
.psm-step-title { display: flex; flex-direction: column; min-width: 0; }
.psm-step-title .psm-name { font-weight: 500; }
.psm-type { display: flex; flex-wrap: wrap; gap: 0 0.375rem; color: var(--psm-muted); font-size: 0.75rem; }
.psm-not-started > .psm-row { color: var(--psm-muted); }
.psm-track { position: relative; display: block; height: 0.875rem; min-width: 0; }
.psm-bar { position: absolute; top: 0; bottom: 0; min-width: 3px; border-radius: 3px; background: var(--psm-bg); }
.psm-bar-cached { background: transparent; border: 2px solid var(--psm-bg); }
.psm-duration { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.psm-details { padding: 0.25rem 1rem 0.75rem 2.125rem; }
.psm-step-details { margin-bottom: 0.75rem; }
.psm-effects .psm-detail { grid-template-columns: 11rem minmax(0, 1fr); }
.psm-icon {
  display: inline-flex; align-items: center; justify-content: center; width: 1.25rem; height: 1.25rem; margin-right: 0.375rem; flex: none;
  border-radius: 999px; background: var(--psm-bg); color: var(--psm-fg); font-size: 0.625rem;
}
.psm-strip { display: flex; gap: 0.5rem; margin: 0; padding: 0.25rem; overflow-x: auto; list-style: none; white-space: nowrap; }
.psm-strip li > * { display: inline-flex; align-items: center; min-height: 1.75rem; padding: 0 0.625rem 0 0.25rem; border: 1px solid var(--psm-border); border-radius: 999px; }
.psm-strip [aria-current] { border-color: currentColor; background: var(--psm-subtle); font-weight: 600; }
.psm-details dl, .psm-step-details dl, .psm-effects dl { display: flex; flex-direction: column; gap: 0.5rem; margin: 0; }
.psm-detail { display: grid; grid-template-columns: 7rem minmax(0, 1fr); gap: 0 0.75rem; align-items: start; }
.psm-detail dt { line-height: 1.575; }
.psm-log {
  margin: 0; padding: 0.5rem 0.75rem; max-height: 20rem; overflow: auto; border-radius: 4px; background: var(--psm-subtle);
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 0.75rem; line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere;
}
@container (max-width: 44rem) {
  .psm-row { grid-template-columns: minmax(0, 1fr) 7rem 5rem; }
  .psm-row .psm-track { grid-row: 2; grid-column: 1 / -1; height: 0.5rem; margin-top: 0.25rem; }
  .psm-row .psm-duration { grid-row: 1; grid-column: 3; }
  .psm-axis { display: none; }
  .psm-action { grid-template-columns: minmax(0, 1fr); }
  .psm-detail, .psm-effects .psm-detail { grid-template-columns: minmax(0, 1fr); }
  .psm-details { padding-left: 1rem; }
  .psm-table-wide :is(th, td) { padding-right: 0.75rem; }
}
@media (prefers-reduced-motion: no-preference) {
  .psm-bar.psm-state-Running { animation: psm-pulse 2s ease-in-out infinite; }
  @keyframes psm-pulse { 50% { opacity: 0.6; } }
}
`;
