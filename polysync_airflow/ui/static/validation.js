// Reads values that others have written. Each function returns a value of the expected shape, or null.
//
// Everything in an XCom comes from outside: users may edit XComs, and everyone who may create a pipeline chooses
// the names and the reasons in it. Unknown shapes are ignored, texts are cleaned and cut, lists are cut.

// Control characters except tab and newline, half surrogate pairs, and characters that change the direction of a
// text or that nobody sees. The same set is in execution/texts.py.
const UNSAFE = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u180e\\u200b-\\u200f" +
    "\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff9-\\ufffb\\u{e0000}-\\u{e0fff}]|\\p{Surrogate}",
  "gu",
);
const REPLACEMENT = "\ufffd";

// The hosts of the AWS console, each also with a region before it. The same domains are in execution/console.py.
const CONSOLE_HOST =
  /^(?:[a-z0-9-]{1,32}\.)?console\.(?:aws\.amazon\.com|amazonaws\.cn|amazonaws-us-gov\.com|amazonaws-eusc\.eu)$/;
const EXECUTION_ARN = /^arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:pipeline\/[a-zA-Z0-9-]+\/execution\/[a-zA-Z0-9]+$/;
const MAX_URL = 4096;

// 1 January 2000 and 2100: times outside are errors, and would only stretch the time axis.
const FIRST_TIME = 946684800000;
const LAST_TIME = 4102444800000;
const ISO_TIME = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)$/;

/** Returns a cleaned text with at most `maxLength` characters; null if the value is not a text or is empty. */
export function readText(value, maxLength) {
  if (typeof value !== "string" || value === "") {
    return null;
  }
  const text = value.length > maxLength ? `${value.slice(0, maxLength - 1)}…` : value;
  return text.replaceAll("\r\n", "\n").replace(UNSAFE, REPLACEMENT);
}

/** Returns a text, number or boolean as a cleaned text; null for everything else. */
export function readScalar(value, maxLength) {
  return typeof value === "number" || typeof value === "boolean" ? String(value) : readText(value, maxLength);
}

/** Returns the value if it is the ARN of an execution; otherwise null. The same pattern is in execution/models.py. */
export function readExecutionArn(value) {
  return typeof value === "string" && value.length <= 2048 && EXECUTION_ARN.test(value) ? value : null;
}

/** Returns a finite number from `min` to `max`, or null. */
export function readNumber(value, min, max) {
  return typeof value === "number" && value >= min && value <= max ? value : null;
}

/** Returns a whole number from `min` to `max`, or null. */
export function readInteger(value, min, max) {
  return Number.isInteger(value) ? readNumber(value, min, max) : null;
}

/** Returns a time in ISO 8601, with its offset, as milliseconds since 1970; or null. */
export function readTime(value) {
  if (typeof value !== "string" || !ISO_TIME.test(value)) {
    return null;
  }
  return readNumber(Date.parse(value.replace(" ", "T")), FIRST_TIME, LAST_TIME);
}

/** Returns the value if it is one of the choices, otherwise `otherwise`. */
export function readChoice(value, choices, otherwise) {
  return choices.includes(value) ? value : otherwise;
}

/** Returns the first entries of a plain object; none if the value is something else. */
export function readEntries(value, maxEntries) {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  const keys = isObject ? Object.keys(value).slice(0, maxEntries) : [];
  return keys.map((key) => [key, value[key]]);
}

/** Returns the first items of a list; none if the value is something else. */
export function readList(value, maxItems) {
  return Array.isArray(value) ? value.slice(0, maxItems) : [];
}

/** Returns the value of a property that the object itself has; undefined if it has none. */
export function property(value, name) {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? value[name] : undefined;
}

/** Returns the URL if it is an https URL of the AWS console; otherwise null, and it may only be shown as text. */
export function consoleLink(value) {
  if (typeof value !== "string" || value.length > MAX_URL || !URL.canParse(value)) {
    return null;
  }
  const url = new URL(value);
  const plain = url.protocol === "https:" && url.port === "" && url.username === "" && url.password === "";
  return plain && CONSOLE_HOST.test(url.hostname) ? url.href : null;
}
