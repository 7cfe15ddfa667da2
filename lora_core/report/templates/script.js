"use strict";
// Without this script the page shows every photograph as three pictures side by side and the first map alone.
document.documentElement.classList.add("js");

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function moveDivider(range) {
  const stage = range.closest(".stage");
  stage.style.setProperty("--at", `${range.value}%`);
  range.setAttribute("aria-valuetext",
    `${range.value} % ${stage.dataset.left}, ${100 - range.value} % ${stage.dataset.right}`);
}

function choosePair(value) {
  const [left, right] = value.split(" ");
  for (const stage of all(".stage")) {
    stage.dataset.left = left;
    stage.dataset.right = right;
    moveDivider(stage.querySelector("input"));
  }
}

function choosePhotograph(index) {
  for (const panel of all(".panel")) panel.classList.toggle("shown", panel.dataset.panel === index);
}

for (const range of all(".stage input")) range.addEventListener("input", () => moveDivider(range));
for (const radio of all("input[name=pair]")) {
  radio.addEventListener("change", () => choosePair(radio.value));
  if (radio.checked) choosePair(radio.value);
}
for (const radio of all("input[name=photograph]")) {
  radio.addEventListener("change", () => choosePhotograph(radio.value));
  if (radio.checked) choosePhotograph(radio.value);
}

// A heading sorts by its column, better direction first, and turns round when pressed again; empty cells stay last.
function sortBy(heading) {
  const table = heading.closest("table"), body = table.tBodies[0], column = heading.cellIndex;
  const text = heading.classList.contains("text"), arrow = heading.querySelector("i")?.textContent;
  const first = arrow === "↑" ? "descending" : "ascending";
  const now = heading.getAttribute("aria-sort");
  const order = !now ? first : now === "ascending" ? "descending" : "ascending";
  for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const key = (row) => row.cells[column].dataset.sort;
  const rows = [...body.rows].sort((one, other) => {
    const a = key(one), b = key(other);
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (text ? a.localeCompare(b, undefined, { numeric: true }) : Number(a) - Number(b));
  });
  body.append(...rows);
}

for (const button of all(".sortable th button")) button.addEventListener("click", () => sortBy(button.closest("th")));

// One map for both orders of the two settings.
function chooseMap() {
  const chosen = all("[data-side]").map((select) => select.value);
  let found = false;
  for (const map of all(".map")) {
    const axes = map.dataset.axes.split(" ");
    map.hidden = chosen[0] === chosen[1] || !axes.every((axis) => chosen.includes(axis));
    found ||= !map.hidden;
  }
  document.querySelector(".no-map").hidden = found;
}

for (const select of all("[data-side]")) select.addEventListener("change", chooseMap);

// What a round showed belongs on paper; the long tables and the YAML do not.
addEventListener("beforeprint", () => all("details.round").forEach((details) => { details.open = true; }));
