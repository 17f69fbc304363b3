// What comes next for a task, as execution/what_next.py has worded it by its state of now.
import { h } from "./components.js";
import { formatTime } from "./format.js";
import { property, readList, readText, readTime } from "./validation.js";

const MAX_SENTENCES = 5;
const SENTENCE = 300;

/** Returns sentences without their full stops: each up to the time in milliseconds with which it ends, or null. */
export function readNext(value) {
  return readList(value, MAX_SENTENCES)
    .map((sentence) => ({
      text: readText(property(sentence, "text"), SENTENCE),
      at: readTime(property(sentence, "at")),
    }))
    .filter(({ text }) => text !== null);
}

/** The sentences in one paragraph; nothing if there are none. */
export function Next({ next }) {
  const text = next.map(({ text, at }) => (at === null ? `${text}.` : `${text} ${formatTime(at)}.`)).join(" ");
  return text !== "" && h("div", { className: "psm-next" }, h("strong", null, "Next: "), text);
}
