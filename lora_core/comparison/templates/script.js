"use strict";
// The page knows tokens only: which picture is whose stands in a key that stays with the study.
const data = JSON.parse(document.getElementById("data").textContent);
const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const ask = one(".ask"), end = one(".end"), stages = all(".stage"), SAME = "same";
const KEY = `photo-enhancer ${data.page}`;

function complain(text) {
  const problem = one("p[role=alert]");
  problem.textContent = text;
  problem.hidden = false;
}

function randomName() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// What was chosen outlives the tab: { session, choices: { pair: picture or SAME } }.
function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY));
    if (kept?.session && kept.choices) return kept;
  } catch { /* below */ }
  return { session: randomName(), choices: {} };
}

function save() {
  try {
    localStorage.setItem(KEY, JSON.stringify(state));
  } catch {
    complain("This browser keeps nothing for this page: finish and download in one go.");
  }
}

let state = load();
const answered = () => data.pairs.filter((pair) => pair.token in state.choices).length;
const firstOpen = () => data.pairs.findIndex((pair) => !(pair.token in state.choices));
const file = (token) => `pictures/${token}.png`;
let at = 0, zoom = null;

// Both pictures at one place and scale: fitted (at most four times their size), or full size round the point of `zoom`.
function arrange() {
  for (const stage of stages) {
    const image = stage.querySelector("img"), width = image.naturalWidth, height = image.naturalHeight;
    if (!width) continue;
    const fit = Math.min(stage.clientWidth / width, stage.clientHeight / height, 4);
    const scale = zoom ? (fit < 1 ? 1 : 2 * Math.ceil(fit)) : fit;
    const place = (room, length, share) => length <= room ? (room - length) / 2
      : Math.min(0, Math.max(room - length, room / 2 - share * length));
    const x = place(stage.clientWidth, width * scale, zoom?.x ?? 0.5);
    const y = place(stage.clientHeight, height * scale, zoom?.y ?? 0.5);
    image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    image.style.imageRendering = scale > 1 && zoom ? "pixelated" : "auto";
    const label = stage.querySelector(".scale");
    label.hidden = !zoom;
    label.textContent = `${scale} : 1`;
    stage.classList.toggle("zoomed", Boolean(zoom));
  }
}

// The point of the fitted picture under the pointer, as shares of its width and height.
function pointed(event) {
  const stage = event.currentTarget, image = stage.querySelector("img"), box = stage.getBoundingClientRect();
  const fit = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight, 4);
  const share = (pointer, start, room, length) => Math.min(1, Math.max(0, (pointer - start - (room - length) / 2) / length));
  return {
    x: share(event.clientX, box.left, box.width, image.naturalWidth * fit),
    y: share(event.clientY, box.top, box.height, image.naturalHeight * fit),
  };
}

function show(index) {
  at = index;
  zoom = null;
  const asking = index < data.pairs.length;
  ask.hidden = !asking;
  end.hidden = asking;
  asking ? showPair(data.pairs[index]) : showEnd();
  for (const back of all(".back")) back.disabled = index === 0;
}

function showPair(pair) {
  one(".place").textContent = `${at + 1} of ${data.pairs.length}`;
  one("progress").value = answered();
  one(".photo").textContent = pair.photo;
  one(".source").hidden = !pair.source;
  if (pair.source) one(".source img").src = file(pair.source);
  stages.forEach((stage, side) => { stage.querySelector("img").src = file(pair.sides[side]); });
  for (const button of all("[data-choice]")) {
    button.setAttribute("aria-pressed", String(state.choices[pair.token] === choiceOf(pair, button.dataset.choice)));
  }
  const next = data.pairs[at + 1];
  for (const token of next ? [...next.sides, next.source] : []) if (token) new Image().src = file(token);
  arrange();
}

function choiceOf(pair, name) {
  return name === SAME ? SAME : pair.sides[name === "left" ? 0 : 1];
}

function choose(name) {
  const pair = data.pairs[at];
  if (!pair || ask.hidden) return;
  state.choices[pair.token] = choiceOf(pair, name);
  save();
  show(at + 1);
}

const fileName = () => `choices-${data.page.slice(0, 8)}-${state.session.slice(0, 4)}.json`;

function showEnd() {
  const done = answered(), total = data.pairs.length;
  one(".end h1").textContent = done === total ? "Thank you." : "Not quite finished.";
  one(".count").textContent = done === total ? `All ${total} photographs are compared.`
    : `${done} of ${total} photographs are compared; what is open is left out. Go back to compare more.`;
  one(".file").textContent = fileName();
  one(".download").disabled = done === 0;
}

function download() {
  const choices = data.pairs.filter((pair) => pair.token in state.choices)
    .map((pair) => ({ pair: pair.token, choice: state.choices[pair.token] }));
  const { page, experiment, round } = data;
  const text = JSON.stringify({ page, experiment, round, session: state.session, choices }, null, 2);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text + "\n"], { type: "application/json" }));
  link.download = fileName();
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Back from the end goes to what is open, if anything is.
function back() {
  const open = firstOpen();
  if (at >= data.pairs.length && open >= 0) show(open);
  else if (at > 0) show(at - 1);
}

for (const button of all("[data-choice]")) button.addEventListener("click", () => choose(button.dataset.choice));
for (const button of all(".back")) button.addEventListener("click", back);
one(".finish").addEventListener("click", () => show(data.pairs.length));
one(".download").addEventListener("click", download);
one(".again").addEventListener("click", () => {
  state = { session: randomName(), choices: {} };
  save();
  show(0);
});
for (const image of all("img")) {
  image.addEventListener("load", arrange);
  image.addEventListener("error", () => complain(`The picture ${image.getAttribute("src")} cannot be read; the page and its pictures folder belong together.`));
}
for (const stage of stages) {
  stage.addEventListener("click", (event) => {
    zoom = zoom ? null : event.detail ? pointed(event) : { x: 0.5, y: 0.5 };
    arrange();
  });
  stage.addEventListener("pointermove", (event) => {
    if (!zoom) return;
    zoom = pointed(event);
    arrange();
  });
}
addEventListener("resize", arrange);
addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    ArrowLeft: () => choose("left"),
    ArrowRight: () => choose("right"),
    "=": () => choose(SAME),
    Backspace: back,
    z: () => { zoom = zoom ? null : { x: 0.5, y: 0.5 }; arrange(); },
  };
  const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

const open = firstOpen();
show(open < 0 ? data.pairs.length : open);
