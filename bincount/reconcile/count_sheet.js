"use strict";
const KEY = `bincount/${document.body.dataset.worklist}`;
const items = [...document.querySelectorAll("li")], byId = new Map(items.map(item => [item.dataset.id, item]));
const scan = document.querySelector("#scan"), by = document.querySelector("#by"), progress = document.querySelector("progress");
let state = { by: "", bins: {} };  // by id: counted, when, reason, note; first: a count that awaits its recount
try { state = JSON.parse(localStorage.getItem(KEY)) || state; } catch { /* without storage the page still counts */ }

const fields = item => ({ counted: item.querySelector(".counted"), reason: item.querySelector("select"), note: item.querySelector(".note input"), ask: item.querySelector(".ask") });
const isDone = bin => bin !== undefined && bin.first === undefined && (bin.counted !== undefined || Boolean(bin.reason));

function keep() {
  try { localStorage.setItem(KEY, JSON.stringify(state)); } catch { document.querySelector("#progress").dataset.lost = "yes"; }
}

function show(item) {
  const bin = state.bins[item.dataset.id] || {}, { counted, reason, note, ask } = fields(item);
  if (document.activeElement !== counted) counted.value = bin.first === undefined ? bin.counted ?? "" : "";
  reason.value = bin.reason || "";
  note.value = bin.note || "";
  ask.hidden = bin.first === undefined;
  ask.textContent = ask.hidden ? "" : "Two counts differ. Count this bin again and enter what you find.";
  item.classList.toggle("done", isDone(bin));
  item.classList.toggle("open", bin.first !== undefined);
}

function total() {
  const done = items.filter(item => isDone(state.bins[item.dataset.id])).length, open = Object.values(state.bins).filter(bin => bin.first !== undefined).length;
  progress.value = done;
  const line = document.querySelector("#progress");
  line.textContent = `${done} of ${items.length} bins done${open ? `, ${open} to count again` : ""}${line.dataset.lost ? ". This browser keeps nothing: save before you close the page." : "."}`;
}

// A count that differs from the one before is taken when a further count agrees with either of them.
function count(item) {
  const { counted } = fields(item), text = counted.value.trim(), bin = { ...state.bins[item.dataset.id] };
  if (text === "" && bin.first !== undefined) return false;  // it waits for its recount
  if (text === "") { delete bin.counted; delete bin.when; }
  else if (!/^[0-9]{1,6}$/.test(text) || Number(text) > 100000) { counted.setCustomValidity("a whole number up to 100000"); counted.reportValidity(); return false; }
  else {
    const number = Number(text);
    if (bin.first !== undefined) {
      if (number === bin.first || number === bin.counted) delete bin.first;
      else bin.first = bin.counted;
    } else if (bin.counted !== undefined && bin.counted !== number) bin.first = bin.counted;
    Object.assign(bin, { counted: number, when: new Date().toISOString(), reason: "" });
  }
  counted.setCustomValidity("");
  store(item, bin);
  return true;
}

function store(item, bin) {
  state.bins[item.dataset.id] = bin;
  keep();
  show(item);
  total();
}

function go(item) {
  item.scrollIntoView({ block: "start" });
  const { counted } = fields(item);
  counted.focus();
  counted.select();
}

function next(item) {
  const at = items.indexOf(item), rest = [...items.slice(at + 1), ...items.slice(0, at)];
  const open = rest.find(other => !isDone(state.bins[other.dataset.id]));
  if (open) go(open); else document.querySelector("#save").focus();
}

for (const item of items) {
  const { counted, reason, note } = fields(item);
  show(item);
  counted.addEventListener("change", () => count(item));
  counted.addEventListener("keydown", event => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const before = state.bins[item.dataset.id] || {};
    const taken = String(before.counted ?? "") === counted.value.trim() && before.first === undefined ? true : count(item);
    if (!taken) return;
    if ((state.bins[item.dataset.id] || {}).first !== undefined) { counted.value = ""; counted.focus(); } else next(item);
  });
  reason.addEventListener("change", () => { const { first, counted: number, when, ...bin } = state.bins[item.dataset.id] || {}; store(item, reason.value ? { ...bin, reason: reason.value } : { ...bin, counted: number, when, reason: "" }); });
  note.addEventListener("change", () => store(item, { ...state.bins[item.dataset.id], note: note.value.trim() }));
}

scan.addEventListener("keydown", event => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  const text = scan.value.trim(), found = byId.get(text) || items.find(item => item.dataset.location.toLowerCase() === text.toLowerCase() && text);
  scan.setCustomValidity(found ? "" : "no such bin on this sheet");
  scan.reportValidity();
  if (found) { scan.value = ""; go(found); }
});
scan.addEventListener("input", () => scan.setCustomValidity(""));
by.value = state.by;
by.addEventListener("change", () => { state.by = by.value.trim(); keep(); });

const cell = value => { const text = String(value ?? ""), safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe; };

function save(name, titles, rows) {
  if (!rows.length) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([[titles, ...rows].map(row => row.map(cell).join(",")).join("\n") + "\n"], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

document.querySelector("#save").addEventListener("click", () => {
  const bins = items.map(item => [item.dataset.id, state.bins[item.dataset.id] || {}]);
  const counted = bins.filter(([, bin]) => isDone(bin) && bin.counted !== undefined), not = bins.filter(([, bin]) => bin.reason);
  save("counts.csv", ["id", "counted", "when", "by", "note"], counted.map(([id, bin]) => [id, bin.counted, bin.when, state.by, bin.note]));
  save("not-counted.csv", ["id", "reason", "note"], not.map(([id, bin]) => [id, bin.reason, bin.note]));
});
total();
