"use strict";
import {Board} from "./canvas.js";

const $ = id => document.getElementById(id);
const make = (tag, props = {}, ...children) => { const e = Object.assign(document.createElement(tag), props); e.append(...children); return e; };
const CONTROLS = {N: {}, steps: {min: 1, max: 200, step: 1}, start: {min: .05, max: 1, step: .05}, seed: {min: 0, max: 999, step: 1}};
const LARGEST = 60 * 2 ** 20; // characters of a request: the server takes a little more
const given = {}, runs = new Map(), inputs = {};
let about, values, factors = [], chosen = null, mode = "draw", version = 0, pair = null, drawing = false; // since the last Run

const board = new Board($("stage"), {
  changed() {
    drawing = true;
    $("undo").disabled = $("clear").disabled = !board.strokes.length;
    $("redo").disabled = !board.undone.length;
    check();
  },
  seen: () => place(),
  picked(colour) { $("colour").value = board.colour = colour; tool("paint"); say(`picked ${colour}`); },
  tool, size,
  split(x, by = 0) { $("split").value = x === null ? Number($("split").value) + by : 100 * x / $("stage").clientWidth; place(); },
});

function say(text, bad = false) { $("status").textContent = text; $("status").classList.toggle("bad", bad); }
async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, body === undefined ? {} : {method: "POST", body: JSON.stringify(body)});
  } catch { throw new Error("ilvrctl does not answer: was it ended?"); }
  if (answer.ok) return answer.json();
  if (answer.status !== 400) throw new Error(await answer.text());
  const {message, hint} = await answer.json();
  throw new Error(hint ? `${message} (${hint})` : message);
}
const trying = work => async (...args) => { try { await work(...args); } catch (error) { say(error.message, true); } };

// tools
function tool(name) {
  if (document.querySelector(`[data-tool=${name}]`).hidden) return;
  board.tool = $("stage").dataset.tool = name;
  for (const b of document.querySelectorAll("[data-tool]")) if (b.tagName === "BUTTON") b.setAttribute("aria-pressed", b.dataset.tool === name);
}
function size(pixels) {
  board.size = Math.round(Math.min(Math.max(1, pixels), $("size").max));
  $("size").value = board.size; $("size-now").textContent = board.size;
}
for (const b of document.querySelectorAll("button[data-tool]")) b.onclick = () => { look("draw"); tool(b.dataset.tool); };
$("colour").oninput = () => { board.colour = $("colour").value; };
$("size").oninput = () => size(Number($("size").value));
$("fill").onclick = () => board.fill();
$("undo").onclick = () => board.undo(); $("redo").onclick = () => board.redo(); $("clear").onclick = () => board.clear();
$("larger").onclick = () => board.zoom(1.25); $("smaller").onclick = () => board.zoom(.8); $("fit").onclick = () => board.fit();
document.addEventListener("keydown", e => {
  if (!(e.ctrlKey || e.metaKey)) return;
  const k = e.key.toLowerCase();
  if (k === "enter") $("run").click();
  else if (e.target.matches("input[type=number]")) return;
  else if (k === "y" || (k === "z" && e.shiftKey)) board.redo();
  else if (k === "z") board.undo();
  else return;
  e.preventDefault();
});

// settings
function build() {
  const method = make("select", {id: "method", onchange: () => { given.method = method.value; delete given.N; delete given.start; check(); }}, ...about.methods.map(m => make("option", {value: m, textContent: m})));
  inputs.method = [method];
  const rows = [make("label", {}, make("code", {textContent: "--method"}), method)];
  for (const [name, range] of Object.entries(CONTROLS)) {
    const slider = make("input", {type: "range", ...range, id: name}), number = make("input", {type: "number", ...range, max: "", id: name + "-number"});
    number.setAttribute("aria-label", "--" + name + " as a number");
    const change = (value, source) => { given[name] = written(name, value); show(name, value, source); check(); };
    slider.oninput = () => change(name === "N" ? factors[slider.value] : Number(slider.value), slider);
    number.oninput = () => { if (number.value !== "") change(Number(number.value), number); };
    inputs[name] = [slider, number];
    const row = make("label", {}, make("code", {textContent: "--" + name}), slider);
    row.append(number); rows.push(row);
  }
  rows.push(make("button", {type: "button", id: "usual", textContent: "Usual settings", onclick: () => { for (const name of Object.keys(given)) delete given[name]; check(); }}));
  $("controls").replaceChildren(...rows);
  $("controls").onsubmit = e => e.preventDefault();
}
function written(name, value) { return name === "start" ? value.toFixed(2).replace(/(\.\d)0$/, "$1") : String(value); } // 1.0 is all, 1 a level
function show(name, value, source = null) {
  const [slider, number] = inputs[name], off = value === null;
  for (const e of inputs[name]) { e.disabled = off; e.closest("label").classList.toggle("set", name in given); e.closest("label").classList.toggle("off", off); }
  if (slider !== source) slider.value = name !== "N" ? value ?? "" : factors.reduce((best, n, i) => Math.abs(n - value) < Math.abs(factors[best] - value) ? i : best, 0);
  if (number && number !== source) number.value = value ?? "";
}
let timer = 0;
function check() { clearTimeout(timer); timer = setTimeout(trying(checked), 200); }
async function checked() {
  const mine = ++version, masked = board.has("mark");
  try {
    const found = await ask("check", {controls: given, masked});
    if (mine === version) settle(found);
    if ($("status").classList.contains("bad")) say("");
  } finally { if (mine === version) for (const name of Object.keys(inputs)) inputs[name][0].closest("label").classList.toggle("set", name in given); }
}
function settle(found) {
  ({values, N: factors} = found);
  $("words").textContent = found.words;
  Object.assign(inputs.N[0], {min: 0, max: Math.max(0, factors.length - 1), step: 1});
  for (const name of Object.keys(inputs)) if (!inputs[name].includes(document.activeElement) || !(name in given)) show(name, values[name]);
  $("twice").querySelector("[value=N]").disabled = !factors.length;
}

// results
$("run").onclick = trying(async () => {
  $("run").disabled = true;
  try {
    const [paint, mask] = [await board.layer("paint"), await board.layer("mark")], twice = $("twice").value, made = [];
    if ((paint?.data.length || 0) + (mask?.data.length || 0) > LARGEST) throw new Error("the drawing is too large to be sent: fewer colours, or a smaller picture");
    if (!paint && !mask && !about.paper) say("nothing is drawn: all of the picture is edited"); else say("");
    const now = name => Number(given[name] ?? values[name]), at = factors.indexOf(now("N"));
    const next = {seed: () => String(now("seed") + 1), N: () => String(factors[at + 1] ?? factors[at - 1])}[twice];
    for (const controls of next ? [given, {...given, [twice]: next()}] : [given]) made.push(await ask("run", {controls, paint, mask}));
    for (const run of made) heard(run);
    choose(made[0].id);
    drawing = false;
    if (runs.get(chosen).state === "done") finished(runs.get(chosen));
    pair = made.length === 2 ? made.map(run => run.id) : null;
  } finally { $("run").disabled = false; }
});
$("keep").onclick = trying(async () => { heard(await ask(`results/${chosen}/keep`, {})); say("kept"); });
$("cancel").onclick = trying(() => ask(`results/${chosen}/cancel`, {}));
$("copy").onclick = trying(async () => { await navigator.clipboard.writeText($("command").textContent); say("copied"); });
$("reuse").onclick = () => { Object.assign(given, Object.fromEntries(Object.entries(runs.get(chosen).controls).filter(([, v]) => v !== null).map(([k, v]) => [k, k === "start" ? written(k, v) : String(v)]))); check(); };
const title = run => `${run.controls.method}${run.controls.N === null ? "" : `, N ${run.controls.N}`}, ${run.controls.steps} steps${run.controls.start === 1 ? "" : `, start ${run.controls.start}`}, seed ${run.controls.seed}`;
const state = run => run.state === "running" ? (run.of ? `${Math.round(100 * run.done / run.of)} %` : "loading") : run.state === "done" ? (run.kept ? "kept" : `${run.seconds} s`) : run.state;

function heard(run) {
  const before = runs.get(run.id);
  if (before && run.at < before.at) return;
  runs.set(run.id, run);
  let item = $("item-" + run.id);
  if (!item) {
    const image = make("img", {alt: ""}), button = make("button", {onclick: () => { choose(run.id); look("after"); }}, image, make("span", {}), make("span", {className: "soft"}));
    item = make("li", {id: "item-" + run.id}, button);
    $("strip").querySelector("ol").prepend(item); $("empty").hidden = true;
  }
  const [button, [image]] = [item.firstChild, item.querySelectorAll("img")], [words, how] = item.querySelectorAll("span");
  words.textContent = title(run); how.textContent = state(run);
  if (run.preview && run.part === 0) image.src = run.preview;
  if (run.state === "done" && before?.state !== "done") image.src = `results/${run.id}/small`;
  button.setAttribute("aria-pressed", run.id === chosen);
  if (run.id === chosen) { part(run); refresh(run); if (run.state === "done" && before && before.state !== "done") finished(run); }
  if (run.state === "done" && before?.state !== "done") partners();
  if (pair?.every(id => runs.get(id)?.state === "done")) { [$("left-run").value, $("right-run").value] = pair; pair = null; if (!drawing) look("pair"); }
}
function finished(run) { say(run.notes.length ? run.notes.join("; ") : `done in ${run.seconds} s`); if (!drawing) look("after"); }
function part(run) { // what is growing, in its place
  if (run.state !== "running") { for (const e of $("sheet").querySelectorAll(".part")) e.remove(); return; }
  if (!run.preview) return;
  const [left, top, right, lower] = run.boxes[run.part], id = "part-" + run.part;
  const image = $(id) || $("sheet").appendChild(make("img", {id, className: "part", alt: ""}));
  image.src = run.preview;
  Object.assign(image.style, {left: left + "px", top: top + "px", width: right - left + "px", height: lower - top + "px"});
}
function choose(id) {
  const again = id === chosen;
  chosen = id;
  if (!again) { for (const e of $("sheet").querySelectorAll(".part")) e.remove(); for (const name of ["given", "result"]) $(name).removeAttribute("src"); }
  for (const [n] of runs) $("item-" + n)?.firstChild.setAttribute("aria-pressed", n === id);
  part(runs.get(id)); refresh(runs.get(id));
}
function refresh(run) {
  $("chosen").hidden = false;
  $("chosen-title").textContent = `${title(run)}: ${state(run)}`;
  $("progress").hidden = run.state !== "running"; $("progress").max = run.of || 1; $("progress").value = run.done;
  $("keep").disabled = run.state !== "done" || run.kept; $("keep").textContent = run.kept ? "Kept" : "Keep";
  $("cancel").hidden = !["waiting", "running"].includes(run.state);
  if ($("command").textContent !== run.command) $("command").replaceChildren(...run.command.split(/ (?=-)/).flatMap(words => [make("span", {textContent: words}), " "]).slice(0, -1));
  $("notes").textContent = run.error ? [run.error.message, run.error.hint].filter(Boolean).join("; ") : run.notes.join("; ");
  $("notes").classList.toggle("bad", Boolean(run.error));
  if (run.state === "done" && !$("result").hasAttribute("src")) { $("result").src = `results/${run.id}`; $("given").src = `results/${run.id}/given`; }
  $("view-after").disabled = run.state !== "done";
  if (run.state !== "done" && mode === "after") look("draw");
}
function partners() {
  const done = [...runs.values()].filter(run => run.state === "done");
  for (const [id, fallback] of [["left-run", 0], ["right-run", done.length - 1]]) {
    const before = $(id).value;
    $(id).replaceChildren(...done.map(run => make("option", {value: run.id, textContent: `${run.id}: ${title(run)}`})));
    $(id).value = done.some(run => String(run.id) === before) ? before : done[fallback].id;
  }
  $("view-pair").disabled = done.length < 2;
  if (mode === "pair") sides();
}
function sides() {
  for (const side of ["left", "right"]) {
    const run = runs.get(Number($(side + "-run").value));
    $(side).src = `results/${run.id}`; $(side).alt = title(run);
    $(side).nextElementSibling.textContent = `${run.id}: ${title(run)}`;
  }
}
$("left-run").onchange = $("right-run").onchange = sides;

// views
function look(how) {
  if (how === "after" && runs.get(chosen)?.state !== "done") how = "draw";
  mode = board.mode = how;
  for (const name of ["draw", "after", "pair"]) { $("view-" + name).setAttribute("aria-pressed", name === how); $("stage").classList.toggle(name, name === how); }
  $("result").hidden = $("given").hidden = $("divider").hidden = $("split-label").hidden = how !== "after";
  for (const e of document.querySelectorAll(".badge")) e.hidden = how !== "after";
  $("pair").hidden = $("beside").hidden = how !== "pair";
  $("cursor").hidden = true;
  if (how === "pair") sides();
  place();
}
function place() { // the divider, over the window, and the result behind it
  const x = $("split").value / 100 * $("stage").clientWidth;
  $("divider").style.left = x + "px";
  $("result").style.clipPath = `inset(0 0 0 ${Math.max(0, (x - board.view.x) / board.view.scale)}px)`;
}
$("split").oninput = place;
for (const name of ["draw", "after", "pair"]) $("view-" + name).onclick = () => look(name);

// begin
about = await ask("about");
document.title = `${about.name} · ilvrctl draw`;
$("name").textContent = about.name; $("target").textContent = about.target;
$("fill").hidden = !about.paper; document.querySelector("button[data-tool=mark]").hidden = !about.masks;
const [width, height] = about.size;
$("size").max = Math.max(20, Math.round(Math.min(width, height) / 2));
board.open(about.name, width, height); size(board.size); tool("paint"); look("draw");
build(); settle(about);
$("photo").src = "photo"; // what can be drawn before it is there is drawn
$("photo").onload = () => document.documentElement.setAttribute("data-shown", "");
for (const run of about.runs) heard(run);
const last = about.runs.at(-1);
if (last) choose(last.id);
const events = new EventSource("events");
events.onmessage = e => heard(JSON.parse(e.data));
events.onerror = () => say("ilvrctl does not answer: was it ended?", true);
events.onopen = () => { if ($("status").classList.contains("bad")) say(""); };
document.documentElement.setAttribute("data-ready", "");
