// The time line of grants and the small plots, as SVG.
import { clean, clientName, duration, short } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const TONES = 8;
const TONED = 200;
const LANES = 10;
const LANE = 24;
const LABEL = 170;

let given = 0;

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Grants with their ends, oldest first, of records in their order. Times are whole milliseconds;
 *  what happened within one is spread over it in its order. */
export function grantsOf(records) {
  const times = spread(records);
  const open = new Map();
  const grants = [];
  records.forEach((record, at) => {
    if (record.event === "granted") {
      const grant = { token: record.token, client: record.client, from: times[at], record };
      open.set(record.token, grant);
      grants.push(grant);
    } else if (record.event === "started") {
      // Who held before the server started holds on, if the grant is known.
    } else if (record.token !== null && open.has(record.token)) {
      Object.assign(open.get(record.token), { until: times[at], end: record });
      open.delete(record.token);
    }
  });
  return grants;
}

function spread(records) {
  const at = records.map((record) => Date.parse(record.at));
  const times = [];
  for (let i = 0; i < at.length; ) {
    let next = i;
    while (next < at.length && at[next] === at[i]) next += 1;
    for (let k = i; k < next; k += 1) times.push(at[i] + (k - i) / (next - i));
    i = next;
  }
  return times;
}

export function wasLost(grant) {
  return grant.end !== undefined && !["released", "aborted", "cancelled"].includes(grant.end.event);
}

/** Draws the grants of [from, until], one lane a client. */
export function drawTimeline(svg, grants, from, until, tones) {
  const width = Math.max(svg.clientWidth, 280);
  const label = Math.min(LABEL, width * 0.35);
  const shown = grants.filter((grant) => (grant.until ?? until) >= from && grant.from <= until);
  const lanes = new Map();
  for (const grant of [...shown].reverse()) {
    const key = grant.client ? grant.client.session : "?";
    if (!lanes.has(key) && lanes.size < LANES) lanes.set(key, { client: grant.client, grants: [] });
    lanes.get(key)?.grants.push(grant);
  }
  const height = Math.max(lanes.size, 1) * LANE + 22;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.height = `${height}px`;
  const x = (at) => label + ((at - from) / Math.max(until - from, 1e-9)) * (width - label);
  const clip = shape("clipPath", { id: "labels" });
  clip.append(shape("rect", { x: 0, y: 0, width: label - 6, height }));
  const parts = [clip, ...axis(x, from, until, width, height)];
  [...lanes].forEach(([key, lane], row) => {
    const y = row * LANE;
    const name = short(clientName(lane.client), Math.floor(label / 6));
    parts.push(shape("text", { x: 0, y: y + 16, "clip-path": "url(#labels)" }, name));
    for (const grant of lane.grants) {
      const left = Math.max(x(grant.from), label);
      const right = Math.min(x(grant.until ?? until), width);
      const kind = grant.end === undefined ? " open" : wasLost(grant) ? " lost" : "";
      const band = shape("rect", {
        x: left, y: y + 3, width: Math.max(right - left, 1), height: LANE - 8,
        class: `band tone-${toneOf(tones, key)}${kind}`,
      });
      band.append(shape("title", {}, title(grant)));
      parts.push(band);
    }
  });
  svg.replaceChildren(...parts);
  const lost = shown.filter(wasLost).length;
  svg.setAttribute("aria-label", shown.length === 0 ? "No grants in this time"
    : `${shown.length} grants to ${lanes.size}${lanes.size === LANES ? " or more" : ""} clients`
      + ` within ${duration(until - from)}, ${lost} taken back; the table below has them`);
  return { shown, lanes: lanes.size };
}

function axis(x, from, until, width, height) {
  const parts = [];
  for (const part of [0, 0.5, 1]) {
    const at = x(from + (until - from) * part);
    parts.push(shape("line", { x1: at, x2: at, y1: 0, y2: height - 18, class: "axis" }));
    const anchor = ["start", "middle", "end"][part * 2];
    const text = part === 1 ? "now" : `−${duration((until - from) * (1 - part))}`;
    parts.push(shape("text", { x: at, y: height - 4, class: "faint", "text-anchor": anchor }, text));
  }
  return parts;
}

/** One tone a client for as long as it is seen, the next one for each new client. A page may stay open
 *  for months: who was drawn longest ago is forgotten. */
function toneOf(tones, key) {
  const tone = tones.get(key) ?? given++ % TONES;
  tones.delete(key);
  tones.set(key, tone);
  if (tones.size > TONED) tones.delete(tones.keys().next().value);
  return tone;
}

function title(grant) {
  const ended = grant.end ? `${grant.end.event} after ${duration(grant.until - grant.from)}` : "held";
  return clean(`${clientName(grant.client)} (${grant.client?.program ?? "?"}), token ${grant.token}: ${ended}`);
}

/** A small plot: a heading, the newest values, their course. */
export class Plot {
  constructor(parent, name, format, series) {
    this.format = format;
    this.series = series;
    this.name = name;
    this.values = series.map(() => []);
    this.now = document.createElement("p");
    this.now.className = "now";
    this.svg = shape("svg", { role: "img", preserveAspectRatio: "none", viewBox: "0 0 120 56" });
    this.lines = series.map((_, n) => shape("polyline", { class: n === 0 ? "first" : "second" }));
    this.svg.append(...this.lines);
    const heading = document.createElement("h3");
    heading.textContent = name;
    const box = document.createElement("div");
    box.className = "plot";
    box.append(heading, this.now, this.svg);
    parent.append(box);
  }

  /** One value a series; null where there is none. */
  add(values) {
    values.forEach((value, n) => {
      this.values[n].push(value);
      if (this.values[n].length > 120) this.values[n].shift();
    });
    const most = Math.max(...this.values.flat().map((value) => value ?? 0), 1e-9);
    this.values.forEach((course, n) => {
      const start = 120 - course.length;
      const points = course.map((value, at) => `${start + at},${54 - (52 * (value ?? 0)) / most}`);
      this.lines[n].setAttribute("points", points.join(" "));
    });
    const told = values.map((value, n) => `${this.series[n]}${value === null ? "–" : this.format(value)}`);
    this.now.textContent = told.join(" · ");
    const range = `the last ${this.values[0].length} looks, at most ${this.format(most)}`;
    this.svg.setAttribute("aria-label", `${this.name}: now ${told.join(", ")}; ${range}`);
  }
}

/** The value below which the share `q` of what is counted lies; null when nothing is. */
export function quantile(bounds, counts, q) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all === 0) return null;
  let left = all * q;
  for (let at = 0; at < counts.length; at += 1) {
    if (left <= counts[at]) {
      const low = at === 0 ? 0 : bounds[at - 1];
      const high = bounds[at] ?? bounds[bounds.length - 1];
      return low + (high - low) * (left / Math.max(counts[at], 1));
    }
    left -= counts[at];
  }
  return bounds[bounds.length - 1];
}
