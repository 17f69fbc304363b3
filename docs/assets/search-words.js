// The theme's search takes each word of a question as the beginning of a word: "how do I" finds whatever begins with
// "i", and "executions" does not find the stem of "execution". Here a word stands for itself, so the index's stems and
// stop words count. The last word, which may not be complete yet, is a beginning, too: the theme adds the "*".
const QUERY = 2; // the type of the message that asks
// What only those write who know the query language of lunr. An error that somebody pastes has colons, too.
const OPERATOR = /(^|\s)[+"]\S|\w[*^~]|\b(title|text|tags):/;
const WORD = /[\p{L}\p{N}][\p{L}\p{N}_.']*(?<!['.])/gu;

// What people say, and what these pages say.
const SAME = [
  [/\b(at once|at the same time|simultaneous(ly)?|concurren\w+|parallelism)\b/, "parallel limit"],
  [/\be-?mails?\b/, "mail notify"],
  [/\b(azure|aad)\b/, "entra"],
  [/\bk8s\b/, "kubernetes"],
  [/\b(cancel|abort)\w*\b/, "stop"],
  [/\b(rerun|redo)\w*\b/, "retry clear"],
  [/\b(stuck|hang\w*)\b/, "progress"],
  [/\blog ?in\b/, "sign"],
  [/\bexceptions?\b/, "error"],
  [/\b(clean ?up|orphan\w*)\b/, "delete stop left"],
  [/\b(died|crash\w*)\b/, "killed restart"],
  [/\b(pric\w+|\w*expensive\w*|budget|money)\b/, "cost limit"],
  [/\b(resourcelimitexceeded|\w*capacity\w*|quotas?)\b/, "wait capacity"],
];

globalThis.Worker = class extends Worker {
  postMessage(message) {
    super.postMessage(message.type === QUERY ? { ...message, data: wordsOf(message.data) } : message);
  }
};

function wordsOf(query) {
  if (OPERATOR.test(query)) return query;
  const text = query.toLowerCase();
  const same = SAME.filter(([said]) => said.test(text)).map(([, words]) => words);
  const words = [text, ...same].join(" ").match(WORD) ?? [];
  const beginning = text.match(/[\p{L}\p{N}_]*$/u);
  return [...words.map((word) => `${word}^1`), ...beginning].join(" ");
}
