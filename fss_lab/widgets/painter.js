// The browser's half of fss_lab.MaskPainter: turns pointer and keys into strokes, in pixels of the photo.
// The mask itself is drawn in Python, from the same strokes; painter_canvas.js, which stands before this, draws the rest.

const KEYS =
  "B brush · P polygon · W wand, if there is one · E eraser · [ and ] brush size · Ctrl+Z undo. On the photo: arrow keys move the cross " +
  "(with Shift further), Space puts the brush down and lifts it, sets a corner or waves the wand; Enter closes a polygon, " +
  "Backspace takes its last corner back, Escape gives it up.";
const PAGE = `
  <div class="fss-painter-bar" role="group" aria-label="Drawing tools">
    <div class="fss-painter-group"><button type="button">Brush</button><button type="button">Polygon</button></div>
    <div class="fss-painter-group"><button type="button">Wand</button></div>
    <div class="fss-painter-group"><button type="button">Eraser</button></div>
    <div class="fss-painter-group"><button type="button">Undo</button><button type="button">Clear</button></div>
    <label>Brush size<input type="range" step="any"><span></span></label>
  </div>
  <canvas tabindex="0" width="0" height="0" role="application" aria-label="Photo to draw a mask on. ${KEYS}"></canvas>
  <div class="fss-painter-status" role="status"></div>
  <details class="fss-painter-keys"><summary>Keys</summary><div>${KEYS}</div></details>`;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const CHANGES = ["strokes", "tool", "eraser", "brush_size", "_marked", "_areas"].map((name) => `change:${name}`);

function render({ model, el }) {
  const painter = new Painter(model, buildPage(el));
  painter.showPhoto();
  painter.listenToPointer();
  painter.listenToKeys();
  painter.listenToButtons();
  for (const change of CHANGES) model.on(change, painter.draw);
  return () => {
    for (const change of CHANGES) model.off(change, painter.draw);
    URL.revokeObjectURL(painter.photo.src);
  };
}

function buildPage(el) {
  const root = Object.assign(document.createElement("div"), { className: "fss-painter", innerHTML: PAGE });
  el.append(root);
  const [slider, sizeText, canvas, status] = root.querySelectorAll("input, label span, canvas, [role=status]");
  const named = [...root.querySelectorAll("button")].map((button) => [button.textContent.toLowerCase(), button]);
  // JupyterLab's own keys ("d d" deletes the cell) stay out of whatever has the focus here; it asks the element itself
  for (const child of root.querySelectorAll("*")) child.dataset.lmSuppressShortcuts = "true";
  return { root, buttons: Object.fromEntries(named), slider, sizeText, canvas, status };
}

class Painter {
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.canvas = page.canvas;
    [this.height, this.width] = model.get("_size");
    this.photo = new Image();
    this.layer = document.createElement("canvas"); // the mask alone
    this.waiting = false; // for the next frame
    this.corners = []; // of the polygon that is still open
    this.areas = {}; // pictures that Python has drawn
    this.line = null; // points of the brush stroke that is being drawn
    this.cursor = { x: this.width / 2, y: this.height / 2 };
    this.cursorShown = false;
    this.largestBrush = Math.max(2, Math.round(Math.max(this.width, this.height) / 4));
    Object.assign(page.slider, { min: 1, max: this.largestBrush });
  }

  showPhoto() {
    const { photo, canvas, layer } = this;
    photo.onload = () => {
      // a small photo is enlarged, for nobody can draw on a stamp
      const enlarged = Math.max(1, Math.ceil(600 / Math.max(photo.naturalWidth, photo.naturalHeight)));
      canvas.width = layer.width = photo.naturalWidth * enlarged;
      canvas.height = layer.height = photo.naturalHeight * enlarged;
      this.draw();
    };
    photo.src = URL.createObjectURL(new Blob([this.get("_picture")], { type: "image/jpeg" }));
  }

  // ---- state

  get(name) {
    return this.model.get(name);
  }

  drawsPolygon() {
    return this.get("tool") === "polygon";
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  add(stroke) {
    this.set("strokes", [...this.get("strokes"), stroke]);
  }

  // ---- strokes

  wave(point) {
    this.add({ tool: "wand", erase: this.get("eraser"), points: [point] });
  }

  brushStroke() {
    return { tool: "brush", erase: this.get("eraser"), size: this.get("brush_size"), points: this.line };
  }

  liftBrush() {
    const stroke = this.brushStroke();
    this.line = null;
    this.add(stroke);
  }

  closePolygon() {
    if (this.corners.length > 2) {
      const points = this.corners;
      this.corners = [];
      this.add({ tool: "polygon", erase: this.get("eraser"), points });
    }
    this.draw();
  }

  setCorner(point) {
    const { corners } = this;
    if (corners.length > 2 && distance(corners[0], point) < 10 * this.scale()) return this.closePolygon();
    const last = corners[corners.length - 1];
    if (!last || distance(last, point) > 0) corners.push(point);
    this.draw();
  }

  undo() {
    if (this.line || this.corners.length) {
      this.line = null;
      this.corners.pop();
    } else {
      this.set("strokes", this.get("strokes").slice(0, -1));
    }
    this.draw();
  }

  /** Gives up what is begun and not yet a stroke. */
  abandon() {
    this.line = null;
    this.corners = [];
    this.draw();
  }

  choose(tool) {
    this.set("tool", tool);
    this.abandon();
  }

  resize(factor) {
    this.set("brush_size", Math.min(Math.max(this.get("brush_size") * factor, 1), this.largestBrush));
  }

  // ---- drawing

  /** Pixels of the photo for one pixel on the screen. */
  scale() {
    return this.width / (this.canvas.getBoundingClientRect().width || this.width);
  }

  /** Draws with the next frame, however often this is called before; a field, for it is a listener as well. */
  draw = () => {
    if (!this.waiting) requestAnimationFrame(() => this.paint());
    this.waiting = true;
  };

  paint() {
    this.waiting = false;
    this.describe();
    if (!this.canvas.width) return; // the photo is not there yet
    const context = this.canvas.getContext("2d");
    const zoom = this.canvas.width / this.width;
    const strokes = [...this.get("strokes"), ...(this.line ? [this.brushStroke()] : [])];
    drawMask(this.layer.getContext("2d"), zoom, strokes, loadPictures(this.get("_areas"), this.areas, this.draw));
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.photo, 0, 0, this.canvas.width, this.canvas.height);
    context.globalAlpha = 0.6;
    context.drawImage(this.layer, 0, 0);
    context.globalAlpha = 1;
    context.setTransform(zoom, 0, 0, zoom, 0, 0);
    const { x, y } = this.cursor;
    const path = this.cursorShown ? [...this.corners, [x, y]] : this.corners;
    if (this.corners.length) drawOpenPolygon(context, this.corners, path, this.scale());
    if (this.cursorShown) {
      drawCursor(context, [x, y], this.get("tool") === "brush" ? this.get("brush_size") : 0, this.scale());
    }
  }

  // ---- words

  describe() {
    const { buttons, slider, sizeText, status } = this.page;
    const empty = !this.get("strokes").length;
    for (const tool of ["brush", "polygon", "wand"]) buttons[tool].setAttribute("aria-pressed", this.get("tool") === tool);
    buttons.eraser.setAttribute("aria-pressed", this.get("eraser"));
    buttons.undo.disabled = empty && !this.corners.length;
    buttons.clear.disabled = empty && !this.areas.base;
    buttons.wand.parentElement.hidden = !this.get("_has_wand");
    slider.value = this.get("brush_size");
    sizeText.textContent = `${Math.round(this.get("brush_size"))} px`;
    const open = this.corners.length
      ? ` · open polygon of ${this.corners.length}: click its first corner or press Enter to close it`
      : "";
    const unanswered = this.get("strokes").some((stroke) => stroke.tool === "wand" && !(placesOf(stroke) in this.get("_areas")));
    const down = this.line ? " · brush is down" : unanswered ? " · the wand is at work" : "";
    const percent = (100 * this.get("_marked")).toFixed(1);
    const text = `${percent} % of the photo (${this.width} × ${this.height}) marked${open}${down}`;
    if (status.textContent !== text) status.textContent = text; // or it would be read out at every move
  }

  // ---- pointer

  /** Shows the cursor at (x, y), at most at the photo's edge, and returns it as a stroke's point. */
  moveCursor(x, y) {
    this.cursorShown = true;
    this.cursor = { x: clamp(x, this.width), y: clamp(y, this.height) };
    return [round(this.cursor.x), round(this.cursor.y)];
  }

  pointAt(event) {
    const { canvas } = this;
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left - canvas.clientLeft) / canvas.clientWidth) * this.width;
    const y = ((event.clientY - box.top - canvas.clientTop) / canvas.clientHeight) * this.height;
    return this.moveCursor(x, y);
  }

  pointerDown(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    const point = this.pointAt(event);
    if (this.drawsPolygon()) return this.setCorner(point);
    if (this.get("tool") === "wand") return this.wave(point);
    this.canvas.setPointerCapture(event.pointerId);
    this.line = [point];
    this.draw();
  }

  pointerMove(event) {
    const point = this.pointAt(event);
    if (this.line && event.buttons & 1) this.line.push(point);
    this.draw();
  }

  listenToPointer() {
    const { canvas } = this;
    const showCursor = (shown) => {
      this.cursorShown = shown;
      this.draw();
    };
    const listeners = {
      pointerdown: (event) => this.pointerDown(event),
      pointermove: (event) => this.pointerMove(event),
      pointerup: () => this.line && this.liftBrush(),
      pointercancel: () => {
        this.line = null;
        this.draw();
      },
      pointerleave: () => showCursor(document.activeElement === canvas && canvas.matches(":focus-visible")),
      dblclick: () => this.closePolygon(),
      focus: () => showCursor(true),
      blur: () => {
        if (this.line) this.liftBrush();
        showCursor(false);
      },
    };
    for (const [name, listener] of Object.entries(listeners)) canvas.addEventListener(name, listener);
  }

  // ---- keys and buttons

  move([dx, dy], far) {
    const step = Math.max(1, Math.max(this.width, this.height) / 200) * (far ? 10 : 1);
    const point = this.moveCursor(this.cursor.x + dx * step, this.cursor.y + dy * step);
    if (this.line) this.line.push(point);
    this.draw();
  }

  /** What Space does: a corner, or the brush down or up. */
  press() {
    const point = this.moveCursor(this.cursor.x, this.cursor.y);
    if (this.drawsPolygon()) return this.setCorner(point);
    if (this.get("tool") === "wand") return this.wave(point);
    if (this.line) return this.liftBrush();
    this.line = [point];
    this.draw();
  }

  listenToKeys() {
    const everywhere = {
      b: () => this.choose("brush"),
      p: () => this.choose("polygon"),
      w: () => this.get("_has_wand") && this.choose("wand"),
      e: () => this.set("eraser", !this.get("eraser")),
      "[": () => this.resize(1 / 1.25),
      "]": () => this.resize(1.25),
    };
    const onCanvas = {
      " ": () => this.press(),
      Enter: () => (this.drawsPolygon() ? this.closePolygon() : this.press()),
      Backspace: () => this.corners.length && this.undo(),
      Escape: () => this.abandon(),
    };
    this.page.root.addEventListener("keydown", (event) => {
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const command = event.ctrlKey || event.metaKey;
      let action = command ? key === "z" && (() => this.undo()) : everywhere[key];
      if (event.target === this.canvas && !command) {
        action = MOVES[key] ? () => this.move(MOVES[key], event.shiftKey) : onCanvas[key] || action;
      }
      if (!action || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      action();
    });
  }

  listenToButtons() {
    const { buttons, slider } = this.page;
    buttons.brush.onclick = () => this.choose("brush");
    buttons.polygon.onclick = () => this.choose("polygon");
    buttons.wand.onclick = () => this.choose("wand");
    buttons.eraser.onclick = () => this.set("eraser", !this.get("eraser"));
    buttons.undo.onclick = () => this.undo();
    buttons.clear.onclick = () => {
      this.corners = [];
      this.add({ tool: "clear" });
    };
    slider.oninput = () => this.set("brush_size", Number(slider.value));
  }
}

const distance = ([x, y], [u, v]) => Math.hypot(x - u, y - v);
const clamp = (value, most) => Math.min(Math.max(value, 0), most);
const round = (value) => Math.round(value * 10) / 10;

export default { render };
