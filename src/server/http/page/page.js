// The status page: asks every second, shows what it hears. Stops while it cannot be seen.
import { clean, clientName, count, define, duration, element, fill, parse, quoted, short, size } from "./text.js";
import { Plot, drawTimeline, grantsOf, quantile, wasLost } from "./draw.js";

const EVERY = 1000;
const PATIENCE = 5000;
const RECORDS = 1500;
const FILES = 8;
const TAIL = 600;
const byId = (id) => document.getElementById(id);

let records = [];
let before = null;
let isPaused = false;
let failures = 0;
const tones = new Map();
const files = new Map();
let looks = 0;

const plots = {
  sections: new Plot(byId("plots"), "Sections", (n) => `${n.toFixed(n < 10 ? 1 : 0)}/s`, [""]),
  requests: new Plot(byId("plots"), "Requests", (n) => `${n.toFixed(n < 10 ? 1 : 0)}/s`, [""]),
  answer: new Plot(byId("plots"), "Answer", duration, ["median ", "99 % "]),
  wait: new Plot(byId("plots"), "Wait for the lock", duration, ["median ", "99 % "]),
  hold: new Plot(byId("plots"), "Hold of the lock", duration, ["median ", "99 % "]),
  sync: new Plot(byId("plots"), "Sync of the log", duration, ["median ", "99 % "]),
};

async function ask(path) {
  const reply = await fetch(path, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
  if (!reply.ok) throw new Error(`${path}: ${reply.status}`);
  return parse(await reply.text());
}

async function look() {
  const live = await ask("/api/live");
  await lookAtHistory();
  showState(live);
  showCluster(live);
  showLock(live);
  showQueue(live.who);
  showGrants(Date.parse(live.status.now));
  showPlots(live);
  showRoom(live);
  if (before === null || before.status.data.published_bytes !== live.status.data.published_bytes) {
    await lookAtFiles();
  }
  before = live;
  looks += 1;
  document.body.dataset.looks = looks;
}

async function lookAtHistory() {
  const newest = records.length > 0 ? records[records.length - 1].number : 0;
  const first = newest > 0 ? `&from=${newest + 1}` : "";
  let page = await ask(`/api/history?last=500${first}`);
  const got = page.records.length > 0 ? page.records[page.records.length - 1].number : page.newest;
  if (page.newest < newest || got < page.newest) {
    // Another history than before, or more than a look brings: only the newest, then.
    page = await ask("/api/history?last=500");
    records = [];
  }
  records = records.concat(page.records).slice(-RECORDS);
}

async function lookAtFiles() {
  const list = (await ask("/api/files")).files;
  const filled = list.filter((file) => file.bytes > 0);
  const changed = filled.filter((file) => files.get(file.name)?.bytes !== file.bytes);
  for (const file of changed) files.set(file.name, { bytes: file.bytes, seen: looks, text: null });
  const shown = filled
    .map((file) => file.name)
    .sort((a, b) => files.get(b).seen - files.get(a).seen || a.localeCompare(b, "en", { numeric: true }))
    .slice(0, FILES)
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  for (const name of shown.filter((name) => files.get(name).text === null)) {
    files.get(name).text = await ask(`/api/tail?file=${encodeURIComponent(name)}&bytes=${TAIL}`);
  }
  byId("files-note").textContent =
    `${count(filled.length)} of ${count(list.length)} have data` +
    (filled.length > FILES ? `, the ${FILES} changed last` : "");
  showFiles(shown);
}

function showFiles(names) {
  const parent = byId("files");
  const kept = new Map([...parent.children].map((box) => [box.dataset.name, box]));
  const boxes = names.map((name) => {
    const box = kept.get(name) ?? fileBox(name);
    const { bytes, text } = files.get(name);
    box.querySelector(".size").textContent = size(bytes);
    const pre = box.querySelector("pre");
    const isNew = !kept.has(name);
    const isCut = text.bytes > text.text_bytes;
    const wanted = (isCut ? "… " : "") + clean(text.text, true);
    if (pre.textContent !== wanted) {
      const isAtEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4;
      pre.textContent = wanted;
      if (isAtEnd && !isNew) pre.scrollTop = pre.scrollHeight;
    }
    return box;
  });
  // A child that stays is not moved: it keeps focus and scroll position.
  [...parent.childNodes].filter((box) => !boxes.includes(box)).forEach((box) => box.remove());
  boxes.forEach((box, at) => {
    if (parent.children[at] === box) return;
    parent.insertBefore(box, parent.children[at] ?? null);
    const pre = box.querySelector("pre");
    pre.scrollTop = pre.scrollHeight;
  });
  if (boxes.length === 0) parent.textContent = "Nothing has been published yet.";
}

function fileBox(name) {
  const title = element("h3", [quoted(name), " ", element("span", "", { class: "quiet size" })]);
  const pre = element("pre", "", { tabindex: 0, role: "region", "aria-label": `End of ${clean(name)}` });
  const box = element("div", [title, pre], { class: "file" });
  box.dataset.name = name;
  return box;
}

function showState(live) {
  const words = {
    good: ["good", "Serving"],
    full: ["warn", "The disk is full: what needs room is refused"],
    failed: ["bad", "The log has failed: nothing is acknowledged until a restart"],
    stopping: ["warn", "Stopping"],
    leaderless: ["bad", "The cluster has no leader, or there is no way to it"],
  };
  const [state, text] = words[live.health] ?? ["warn", live.health];
  const { cluster } = live;
  const isFollower = live.health === "good" && cluster !== null && !cluster.is_leading;
  say(state, isFollower ? `Follows server ${cluster.leader}` : text);
  byId("server").textContent = `${live.status.server}, version ${live.status.version}`;
  document.title = `Baton ${live.status.server}`;
}

/** Changes the words only when they change: whoever listens hears them once. */
function say(state, text) {
  const told = byId("state");
  if (told.textContent !== text) told.textContent = text;
  told.dataset.state = state;
}

function showCluster({ cluster }) {
  byId("cluster").hidden = cluster === null;
  if (cluster === null) return;
  byId("term").textContent = `term ${cluster.term}, ${count(cluster.lag_entries)} entries to be applied here`;
  fill(byId("servers"), cluster.servers.map((server) => element("tr", [
    element("td", String(server.id), { class: "number" }),
    element("td", quoted(server.address ?? "not known yet")),
    element("td", server.role + (server.id === cluster.id ? ", shows this page" : "")),
  ])), 3, "None.");
}

function showLock(live) {
  const { holder } = live.who;
  const lease = byId("lease");
  lease.hidden = holder === null;
  if (holder === null) {
    const isFollower = live.cluster !== null && !live.cluster.is_leading;
    byId("holder").textContent = isFollower ? "The server that leads knows who holds it" : "Free";
    define(byId("hold"), []);
    return;
  }
  byId("holder").replaceChildren("Held by ", quoted(clientName(holder.client)));
  const left = holder.lease_left_ms;
  const whole = live.status.settings.lease_ms;
  lease.value = Math.min(left / whole, 1);
  define(byId("hold"), [
    ["Program", quoted(holder.client.program)],
    ["User", quoted(holder.client.user)],
    ["Token", holder.token],
    ["Held for", duration(holder.held_ms)],
    ["Lease", holder.is_called ? "called, not heard yet" : left > 0 ? `${duration(left)} left` : "run out, nobody waits"],
    ["Staged", size(holder.staged_bytes)],
    ["Heard", holder.heard_ms_ago === null ? "not since the start" : `${duration(holder.heard_ms_ago)} ago`],
  ]);
}

function showQueue(who) {
  const rows = who.waiters.map((waiter) => element("tr", [
    element("td", String(waiter.position), { class: "number" }),
    element("td", quoted(clientName(waiter.client)), { class: "name" }),
    element("td", quoted(waiter.client.program)),
    element("td", quoted(waiter.client.user)),
    element("td", duration(waiter.waited_ms), { class: "number" }),
    element("td", duration(waiter.heard_ms_ago), { class: "number" }),
  ]));
  fill(byId("queue"), rows, 6, "Nobody waits.");
  byId("waiting").textContent = who.waiting > 0 ? `${count(who.waiting)} waiting` : "";
  byId("more").textContent =
    who.waiting > rows.length ? `and ${count(who.waiting - rows.length)} more behind them` : "";
}

function showGrants(now) {
  const grants = grantsOf(records);
  let span = Number(byId("span").value);
  let until = now;
  if (span === 0 && grants.length > 0) {
    const newest = grants.slice(-100);
    const end = Date.parse(records[records.length - 1].at) + 1;
    // While much happens its end is the newest record, which is behind the clock.
    until = grants[grants.length - 1].until === undefined || now - newest[0].from > 5000 ? now : end;
    span = Math.min(Math.max(until - newest[0].from, 1), 600000);
  }
  const { shown, lanes } = drawTimeline(byId("timeline"), grants, until - (span || 60000), until, tones);
  byId("span-note").textContent = grants.length === 0 ? "" :
    `${count(shown.length)} grants shown, ${lanes} clients, within ${duration(span)}`;
  if (!byId("grants").closest("details").open) return;
  const rows = shown.slice(-100).reverse().map((grant) => element("tr", [
    element("td", grant.token, { class: "number" }),
    element("td", quoted(clientName(grant.client)), { class: "name" }),
    element("td", grant.record.at.slice(11, 23), { class: "word" }),
    element("td", duration((grant.until ?? now) - grant.from), { class: "number" }),
    element("td", grant.end ? grant.end.event : "held", { class: "word" }),
    element("td", grant.end ? size(grant.end.published_bytes || grant.end.discarded_bytes) : "", { class: "number" }),
    element("td", note(grant), { class: "name" }),
  ]));
  fill(byId("grants"), rows, 7, "Nothing in this time.");
}

function note(grant) {
  if (grant.end?.revoked_by) {
    return ["by ", quoted(clientName(grant.end.revoked_by)), ": ", quoted(grant.end.reason, 200)];
  }
  return wasLost(grant) ? "discarded" : "";
}

function showPlots(live) {
  if (before === null) return;
  const seconds = (live.status.uptime_ms - before.status.uptime_ms) / 1000;
  // Started anew in between: its counts began again.
  if (seconds <= 0 || live.status.epoch !== before.status.epoch) return;
  const rate = (of) => Math.max(of(live) - of(before), 0) / seconds;
  plots.sections.add([rate((one) => one.status.history.ever.released)]);
  plots.requests.add([rate((one) => one.status.requests.all)]);
  for (const name of ["answer", "wait", "hold", "sync"]) {
    const old = before.times[name].counts;
    const counts = live.times[name].counts.map((number, at) => Math.max(number - old[at], 0));
    const at = (q) => {
      const us = quantile(live.bounds_us, counts, q);
      return us === null ? null : us / 1000;
    };
    plots[name].add([at(0.5), at(0.99)]);
  }
}

function showRoom(live) {
  const { status, limits } = live;
  gauge("sessions", "Sessions", status.sessions, limits.sessions, count);
  gauge("waiters", "Waiters", status.lock.waiters, limits.waiters, count);
  gauge("staged", "Staged in the section", status.lock.staged_bytes, status.settings.section_limit_bytes, size);
  gauge("data", "Data files", status.data.published_bytes, limits.data_bytes, size);
  define(byId("settings"), [
    ["Disk", `${status.data.room_bytes === null ? "unknown" : size(status.data.room_bytes)} free, ${size(limits.disk_floor_bytes)} of it kept`],
    ["Log", `${size(status.log.bytes)}, ${count(status.log.last - status.log.published)} entries not yet stable`],
    ["History", `${count(status.history.records)} of at most ${count(limits.history_records)} records kept`],
    ["Directory", quoted(status.data.directory, 300)],
    ["Durability", status.settings.durability],
    ["Lease", duration(status.settings.lease_ms)],
    ["Up", `${duration(status.uptime_ms)}, start ${status.epoch}`],
    ["Refused", `${count(status.requests.refused)} requests; malformed datagrams ${count(status.requests.malformed)}`],
  ]);
}

function gauge(id, name, value, most, format) {
  let box = byId(`gauge-${id}`);
  if (box === null) {
    box = element("div", [element("h3", name), element("p", "", { class: "quiet" })], { id: `gauge-${id}` });
    box.append(element("meter", "", { min: 0, "aria-label": name }));
    byId("gauges").append(box);
  }
  const [text, meter] = [box.querySelector("p"), box.querySelector("meter")];
  text.textContent = most === null ? `${format(value)}, no limit` : `${format(value)} of ${format(most)}`;
  meter.hidden = most === null;
  if (most !== null) Object.assign(meter, { max: Math.max(most, 1), high: most * 0.9, value });
}

async function run() {
  for (;;) {
    if (!isPaused && !document.hidden) {
      try {
        await look();
        failures = 0;
      } catch (error) {
        failures += 1;
        if (failures > 1) say("bad", `No answer from the server (${short(error.message, 80)}); what is shown is old`);
      }
    }
    await new Promise((done) => setTimeout(done, EVERY * Math.min(1 + failures, 5)));
  }
}

byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  byId("pause").textContent = isPaused ? "Resume" : "Pause";
  if (isPaused) say("warn", "Paused: what is shown is old");
});
byId("span").addEventListener("change", () => before && showGrants(Date.parse(before.status.now)));
byId("grants").closest("details").addEventListener("toggle", () => before && showGrants(Date.parse(before.status.now)));
run();
