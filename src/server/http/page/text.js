// Texts of the page. Whatever clients have said goes through `clean` and into text nodes only:
// nothing here makes markup of a string.

// Controls, marks that turn the direction of text, and marks that cannot be seen.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/** The text with everything in it to be seen; lines and tabs stay with `isFile` only. */
export function clean(text, isFile = false) {
  const seen = String(text).replace(HIDDEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
  return isFile ? seen : seen.replace(/[\t\n]/g, " ");
}

/** The beginning of a long text. */
export function short(text, most) {
  const all = [...clean(text)];
  return all.length > most ? all.slice(0, most - 1).join("") + "…" : all.join("");
}

/** A new element with this text or these children. */
export function element(name, content, attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  for (const part of [content].flat()) if (part !== undefined) made.append(part);
  return made;
}

/** What a client said, kept apart from the direction of the text around it. */
export function quoted(text, most = 80) {
  return element("bdi", short(text === "" ? "?" : text, most));
}

export function clientName(client) {
  return client ? `${client.host || "?"}:${client.pid}` : "–";
}

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 0.9995) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  let value = Number(bytes);
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

export function count(number) {
  return Number(number).toLocaleString("en");
}

/** A JSON document; tokens and sessions, too large for numbers here, become strings. */
export function parse(text) {
  return JSON.parse(text.replace(/(?<!\\)"(token|session)":(\d+)/g, '"$1":"$2"'));
}

/** Puts rows in place of those of a table's body. */
export function fill(body, rows, columns, none) {
  const empty = element("tr", element("td", none, { colspan: columns, class: "quiet" }));
  body.replaceChildren(...(rows.length > 0 ? rows : [empty]));
}

/** Terms and what they are, in place of those that were there. */
export function define(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([term, what]) => [element("dt", term), element("dd", what)]));
}
