"use strict";
// What is drawn: strokes over a picture, in its own pixels, so that what a stroke costs does not depend on its size.
const MOST_ZOOM = 40, STEP = 8;

function trace(context, points, from, size) { // a line through points [x, y, x, y, ...], from the point before `from` on
  context.lineWidth = size;
  context.beginPath();
  const first = Math.max(0, from - 2);
  context.moveTo(points[first], points[first + 1]);
  for (let i = from; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
  context.stroke();
}

function draw(stroke, paint, marks, width, height, from = 0) {
  const contexts = stroke.kind === "erase" ? [paint, marks] : stroke.kind === "mark" ? [marks] : [paint];
  for (const context of contexts) {
    if (!context) continue;
    context.globalCompositeOperation = stroke.kind === "erase" ? "destination-out" : "source-over";
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = context.fillStyle = stroke.kind === "mark" ? "#00b3c8" : stroke.colour;
    if (stroke.kind === "fill") context.fillRect(0, 0, width, height);
    else trace(context, stroke.points, from, stroke.size);
  }
}

export class Board {
  constructor(stage, told) {
    const part = id => stage.querySelector("#" + id);
    Object.assign(this, {stage, told, sheet: part("sheet"), photo: part("photo"), cursor: part("cursor")});
    this.paint = part("paint").getContext("2d"); this.marks = part("marks").getContext("2d");
    Object.assign(this, {strokes: [], undone: [], now: null, tool: "paint", colour: "#e02020", size: 24, mode: "draw"});
    this.view = {scale: 1, x: 0, y: 0}; this.pointers = new Map(); this.cross = null; this.pen = false; this.fitted = true;
    stage.addEventListener("pointerdown", e => this.down(e)); stage.addEventListener("pointermove", e => this.move(e));
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, e => this.up(e));
    stage.addEventListener("pointerleave", () => { if (!this.cross) this.cursor.hidden = true; });
    stage.addEventListener("wheel", e => { if (this.mode === "pair") return; e.preventDefault(); this.zoom(Math.exp(-e.deltaY * (e.ctrlKey ? .01 : .0015)), this.at(e)); }, {passive: false});
    stage.addEventListener("keydown", e => this.key(e));
    new ResizeObserver(() => this.fitted ? this.fit() : this.resized()).observe(stage);
  }
  open(name, width, height) {
    Object.assign(this, {width, height, store: `ilvrctl:${name}:${width}x${height}`});
    Object.assign(this.sheet.style, {width: width + "px", height: height + "px"});
    this.size = Math.max(2, Math.round(Math.min(width, height) / 24));
    try { this.strokes = JSON.parse(sessionStorage.getItem(this.store)) || []; } catch { this.strokes = []; }
    this.fit(); this.changed();
  }
  // what is seen
  resized() {
    const ratio = window.devicePixelRatio || 1;
    for (const {canvas} of [this.paint, this.marks]) { canvas.width = this.stage.clientWidth * ratio; canvas.height = this.stage.clientHeight * ratio; }
    this.render();
  }
  fit() {
    if (!this.width) return;
    const {clientWidth: w, clientHeight: h} = this.stage, scale = Math.min((w - 24) / this.width, (h - 24) / this.height);
    this.view = {scale, x: (w - scale * this.width) / 2, y: (h - scale * this.height) / 2}; this.fitted = true;
    this.resized();
  }
  zoom(factor, at = [this.stage.clientWidth / 2, this.stage.clientHeight / 2]) {
    const v = this.view, scale = Math.min(MOST_ZOOM, Math.max(.01, v.scale * factor)), f = scale / v.scale;
    this.view = {scale, x: at[0] - (at[0] - v.x) * f, y: at[1] - (at[1] - v.y) * f}; this.fitted = false;
    this.later();
  }
  pan(dx, dy) { this.view.x += dx; this.view.y += dy; this.fitted = false; this.later(); }
  later() { this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.render(); }); }
  render() {
    const {scale, x, y} = this.view, ratio = window.devicePixelRatio || 1;
    this.sheet.style.transform = `translate(${x}px,${y}px) scale(${scale})`;
    this.sheet.classList.toggle("near", scale * ratio > 2.5);
    for (const context of [this.paint, this.marks]) {
      context.restore(); context.save();
      context.setTransform(1, 0, 0, 1, 0, 0); context.clearRect(0, 0, context.canvas.width, context.canvas.height);
      context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
      context.beginPath(); context.rect(0, 0, this.width, this.height); context.clip();
    }
    for (const stroke of this.now ? [...this.strokes, this.now] : this.strokes) draw(stroke, this.paint, this.marks, this.width, this.height);
    if (this.cross) this.ring(...this.screen(...this.cross));
    this.told.seen?.();
  }
  ring(x, y) {
    const d = Math.max(4, this.size * this.view.scale), style = this.cursor.style;
    this.cursor.hidden = this.mode !== "draw" || !(["paint", "mark", "erase"].includes(this.tool) || this.cross);
    style.width = style.height = d + "px"; style.transform = `translate(${x - d / 2}px,${y - d / 2}px)`;
    this.cursor.classList.toggle("down", this.pen);
  }
  at(e) { const box = this.stage.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; }
  picture(x, y) { const v = this.view; return [Math.round((x - v.x) / v.scale * 10) / 10, Math.round((y - v.y) / v.scale * 10) / 10]; }
  screen(x, y) { const v = this.view; return [x * v.scale + v.x, y * v.scale + v.y]; }
  // strokes
  begin(x, y) { this.now = {kind: this.tool, colour: this.colour, size: this.size, points: [x, y]}; draw(this.now, this.paint, this.marks, this.width, this.height); }
  extend(x, y) { const from = this.now.points.length; this.now.points.push(x, y); draw(this.now, this.paint, this.marks, this.width, this.height, from); }
  end() { if (!this.now) return; this.add(this.now); }
  add(stroke) { this.strokes.push(stroke); this.undone = []; this.now = null; this.changed(); this.later(); }
  fill() { this.add({kind: "fill", colour: this.colour}); }
  undo() { if (this.strokes.length) { this.undone.push(this.strokes.pop()); this.changed(); this.later(); } }
  redo() { if (this.undone.length) { this.strokes.push(this.undone.pop()); this.changed(); this.later(); } }
  clear() { this.undone = [...this.undone, ...this.strokes.reverse()]; this.strokes = []; this.changed(); this.later(); }
  changed() { try { sessionStorage.setItem(this.store, JSON.stringify(this.strokes)); } catch { /* too much to be remembered */ } this.told.changed?.(); }
  has(...kinds) { return this.strokes.some(stroke => kinds.includes(stroke.kind)); }
  pick(x, y) {
    const one = new OffscreenCanvas(1, 1).getContext("2d"), [px, py] = this.picture(x, y), ratio = window.devicePixelRatio || 1;
    if (px < 0 || py < 0 || px >= this.width || py >= this.height) return;
    const i = this.photo, f = i.naturalWidth / this.width;
    one.drawImage(i, Math.floor(px) * f, Math.floor(py) * f, 1, 1, 0, 0, 1, 1);
    one.drawImage(this.paint.canvas, x * ratio, y * ratio, 1, 1, 0, 0, 1, 1);
    this.told.picked("#" + [...one.getImageData(0, 0, 1, 1).data.slice(0, 3)].map(v => v.toString(16).padStart(2, "0")).join(""));
  }
  async layer(kind) { // as {x, y, data}: PNG at the picture's own size, cut to what is drawn; null where nothing is
    const kinds = kind === "paint" ? ["paint", "fill"] : ["mark"], drawn = this.strokes.filter(s => kinds.includes(s.kind));
    if (!drawn.length) return null;
    let [left, top, right, bottom] = [this.width, this.height, 0, 0];
    for (const {kind: one, points, size} of drawn) {
      if (one === "fill") { [left, top, right, bottom] = [0, 0, this.width, this.height]; break; }
      for (let i = 0; i < points.length; i += 2) {
        left = Math.min(left, points[i] - size); right = Math.max(right, points[i] + size);
        top = Math.min(top, points[i + 1] - size); bottom = Math.max(bottom, points[i + 1] + size);
      }
    }
    left = Math.max(0, Math.floor(left)); top = Math.max(0, Math.floor(top));
    const width = Math.min(this.width, Math.ceil(right)) - left, height = Math.min(this.height, Math.ceil(bottom)) - top;
    if (width < 1 || height < 1) return null;
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.translate(-left, -top);
    for (const s of this.strokes) if (kinds.includes(s.kind) || s.kind === "erase") draw(s, kind === "paint" ? context : null, kind === "paint" ? null : context, this.width, this.height);
    const blob = await context.canvas.convertToBlob({type: "image/png"}), reader = new FileReader();
    await new Promise((good, bad) => { reader.onload = good; reader.onerror = bad; reader.readAsDataURL(blob); });
    return {x: left, y: top, data: reader.result.slice(reader.result.indexOf(",") + 1)};
  }
  // pointers
  down(e) {
    if (this.mode === "pair") return;
    this.cross = null; this.pen = false; this.stage.setPointerCapture(e.pointerId);
    const at = this.at(e);
    this.pointers.set(e.pointerId, at);
    if (this.pointers.size === 2) { this.now = null; this.later(); return; } // a pinch, not a stroke
    if (this.mode === "after") this.told.split(at[0]);
    else if (e.button === 0 && ["paint", "mark", "erase"].includes(this.tool)) this.begin(...this.picture(...at));
    else if (e.button === 0 && this.tool === "pick") this.pick(...at);
    e.preventDefault(); this.stage.focus({preventScroll: true});
  }
  move(e) {
    const at = this.at(e), before = this.pointers.get(e.pointerId);
    if (this.mode === "draw") this.ring(...at);
    if (!before) return;
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== e.pointerId).map(([, p]) => p), far = p => Math.hypot(p[0] - other[0], p[1] - other[1]);
      this.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
      this.zoom(far(at) / Math.max(1, far(before)), [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2]);
    } else if (this.now) for (const one of e.getCoalescedEvents?.().length ? e.getCoalescedEvents() : [e]) this.extend(...this.picture(...this.at(one)));
    else if (this.mode === "after") this.told.split(at[0]);
    else if (this.tool === "move" || e.buttons === 4) this.pan(at[0] - before[0], at[1] - before[1]);
    this.pointers.set(e.pointerId, at);
  }
  up(e) { this.pointers.delete(e.pointerId); this.end(); }
  // keys
  key(e) {
    const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}, tools = {b: "paint", e: "erase", m: "mark", i: "pick", h: "move"}, k = e.key;
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (arrows[k] && this.mode === "draw") this.step(...arrows[k].map(d => d * (e.shiftKey ? 4 : 1) * STEP / this.view.scale));
    else if (arrows[k] && this.mode === "after") this.told.split(null, arrows[k][0] - arrows[k][1]);
    else if (k === " " && this.mode === "draw") this.press();
    else if (tools[k.toLowerCase()]) this.told.tool(tools[k.toLowerCase()]);
    else if (k === "[" || k === "]") this.told.size(this.size * (k === "]" ? 1.25 : .8));
    else if (k === "+" || k === "=") this.zoom(1.25);
    else if (k === "-") this.zoom(.8);
    else if (k === "0") this.fit();
    else return;
    e.preventDefault();
  }
  step(dx, dy) {
    const [x, y] = this.cross || [this.width / 2, this.height / 2];
    this.cross = [Math.min(this.width, Math.max(0, x + dx)), Math.min(this.height, Math.max(0, y + dy))];
    if (this.now) this.extend(...this.cross);
    this.ring(...this.screen(...this.cross));
  }
  press() {
    this.cross ||= [this.width / 2, this.height / 2];
    if (this.tool === "pick") this.pick(...this.screen(...this.cross));
    else if (this.pen) { this.pen = false; this.end(); }
    else if (this.tool !== "move") { this.pen = true; this.begin(...this.cross); }
    this.ring(...this.screen(...this.cross));
  }
}
