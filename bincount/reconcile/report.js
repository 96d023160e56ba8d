"use strict";
const body = document.querySelector(".list tbody"), rows = [...body.rows];
const search = document.querySelector("#search"), shown = document.querySelector("#shown"), dialog = document.querySelector("dialog");
const boxes = [...document.querySelectorAll(".bar input[type=checkbox]")];

function filter() {
  const query = search.value.trim().toLowerCase(), verdicts = new Set(boxes.filter(box => box.checked).map(box => box.value));
  let visible = 0;
  for (const row of rows) {
    const matches = row.dataset.text.toLowerCase().includes(query) && (!boxes.length || verdicts.has(row.dataset.verdict));
    row.hidden = !matches;
    visible += matches;
  }
  shown.textContent = `${visible.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
}

function sort(head) {
  const column = head.cellIndex, now = head.getAttribute("aria-sort");
  const ascending = head.dataset.first === "descending" ? now === "descending" : now !== "ascending";
  for (const other of head.parentElement.cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (one, other) => {
    const a = value(one), b = value(other);
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1; // empty cells come last in both directions
    const order = head.dataset.kind === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0;
    return (ascending ? order : -order) || one.dataset.rank - other.dataset.rank;
  };
  body.classList.toggle("ranked", head.dataset.kind === "number" && column === 0 && ascending);
  body.append(...rows.sort(compare));
}

function step(by) {
  const visible = [...body.rows].filter(row => !row.hidden), at = visible.indexOf(document.activeElement.closest("tbody tr"));
  const next = visible[Math.min(visible.length - 1, Math.max(0, at + by))];
  if (next) next.focus();
}

// One photo over the other: what moved flickers.
function lay(over) {
  dialog.classList.toggle("over", over);
  dialog.classList.remove("earlier");
}

function flip() {
  if (dialog.querySelector("figure").hidden) return;
  if (!dialog.classList.contains("over")) lay(true);
  else dialog.classList.toggle("earlier");
}

// Where the network saw items: drawn over the photo, each of a few cells blurred into the next.
async function heat() {
  const [photo, canvas] = dialog.querySelectorAll(".both figure:last-child > :is(img, canvas)");
  if (!photo.dataset.heat) return;
  if (canvas.hidden) {
    const cells = Object.assign(new Image(), { src: photo.dataset.heat }), pen = canvas.getContext("2d");
    await cells.decode();
    Object.assign(canvas, { width: photo.naturalWidth, height: photo.naturalHeight });
    Object.assign(pen, { imageSmoothingEnabled: true, imageSmoothingQuality: "high" });
    pen.drawImage(photo, 0, 0);
    pen.drawImage(cells, 0, 0, canvas.width, canvas.height);
  }
  canvas.hidden = !(photo.hidden = canvas.hidden);
}

const keys = { " ": flip, h: heat };

function enlarge(row) {
  const photo = row && row.querySelector("img:not(.before)"), earlier = row && row.querySelector("img.before");
  if (!photo) return;
  const [left, right] = dialog.querySelectorAll(".both figure");
  const fill = (figure, from) => Object.assign(figure.querySelector("img"), { src: from.src, alt: from.alt, hidden: false });
  fill(right, photo).dataset.heat = photo.dataset.heat ?? "";
  right.querySelector("canvas").hidden = true;
  dialog.querySelector("[data-does=flip]").hidden = !earlier;
  dialog.querySelector("[data-does=heat]").hidden = !photo.dataset.heat;
  const alike = row.querySelector("template"), similar = dialog.querySelector("section");
  similar.hidden = !alike;
  similar.querySelector("div").replaceChildren(...(alike ? alike.content.cloneNode(true).childNodes : []));
  left.hidden = right.querySelector("figcaption").hidden = !earlier;
  if (earlier) fill(left, earlier);
  lay(false);
  const why = row.querySelector(".why"); // hidden on narrow screens
  dialog.querySelector("p").textContent = why ? `${photo.alt}: ${why.textContent}` : photo.alt;
  dialog.showModal();
}

search.addEventListener("input", filter);
boxes.forEach(box => box.addEventListener("change", filter));
document.querySelectorAll(".list th[aria-sort]").forEach(head => head.querySelector("button").addEventListener("click", () => sort(head)));
body.addEventListener("click", event => { if (event.target.tagName === "IMG") enlarge(event.target.closest("tr")); });
dialog.addEventListener("click", event => {
  const button = event.target.closest("[data-does]");
  if (button) ({ flip, heat })[button.dataset.does]();
  else dialog.close();
});
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (dialog.open) {
    if (event.key === "Enter") { event.preventDefault(); dialog.close(); }
    if (event.key in keys) { event.preventDefault(); keys[event.key](); }
    return;
  }
  if (event.target === search) { if (event.key === "Escape") { search.value = ""; filter(); search.blur(); } return; }
  const row = document.activeElement.closest && document.activeElement.closest("tbody tr");
  if (event.key === "/") { event.preventDefault(); search.focus(); }
  else if (event.key === "j" || (event.key === "ArrowDown" && row)) { event.preventDefault(); step(1); }
  else if (event.key === "k" || (event.key === "ArrowUp" && row)) { event.preventDefault(); step(-1); }
  else if (event.key === "Enter" && row) { event.preventDefault(); enlarge(row); }
});
filter();
