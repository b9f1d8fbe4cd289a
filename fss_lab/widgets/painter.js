// The browser's half of fss_lab.MaskPainter: turns pointer and keys into strokes, in pixels of the photo.
// The mask itself is drawn in Python, from the same strokes.

const MARK = "#0072B2";
const KEYS =
  "B brush · P polygon · E eraser · [ and ] brush size · Ctrl+Z undo. On the photo: arrow keys move the cross " +
  "(with Shift further), Space puts the brush down and lifts it, or sets a corner; Enter closes a polygon, " +
  "Backspace takes its last corner back, Escape gives it up.";

function render({ model, el }) {
  const [height, width] = model.get("_size");
  const parts = build(el);
  const { canvas, buttons, slider, sizeText, status } = parts;
  const photo = new Image();
  const layer = document.createElement("canvas"); // the mask alone
  let waiting = false; // for the next frame
  let corners = []; // of the polygon that is still open
  let line = null; // points of the brush stroke that is being drawn
  let cursor = { x: width / 2, y: height / 2 };
  let cursorShown = false;

  slider.min = 1;
  slider.max = Math.max(2, Math.round(Math.max(width, height) / 4));

  const address = URL.createObjectURL(new Blob([model.get("_picture")], { type: "image/jpeg" }));
  photo.onload = () => {
    // a small photo is enlarged, for nobody can draw on a stamp
    const enlarged = Math.max(1, Math.ceil(600 / Math.max(photo.naturalWidth, photo.naturalHeight)));
    canvas.width = layer.width = photo.naturalWidth * enlarged;
    canvas.height = layer.height = photo.naturalHeight * enlarged;
    draw();
  };
  photo.src = address;

  // ---- strokes

  const erase = () => model.get("eraser");
  const size = () => model.get("brush_size");
  const brushStroke = () => ({ tool: "brush", erase: erase(), size: size(), points: line });
  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const add = (stroke) => set("strokes", [...model.get("strokes"), stroke]);

  function liftBrush() {
    const stroke = brushStroke();
    line = null;
    add(stroke);
  }

  function closePolygon() {
    if (corners.length > 2) {
      const points = corners;
      corners = [];
      add({ tool: "polygon", erase: erase(), points });
    }
    draw();
  }

  function setCorner(point) {
    const [first] = corners;
    if (corners.length > 2 && distance(first, point) < 10 * scale()) return closePolygon();
    const last = corners[corners.length - 1];
    if (!last || distance(last, point) > 0) corners.push(point);
    draw();
  }

  function undo() {
    if (line || corners.length) {
      line = null;
      corners.pop();
    } else {
      set("strokes", model.get("strokes").slice(0, -1));
    }
    draw();
  }

  function choose(tool) {
    line = null;
    corners = [];
    set("tool", tool);
    draw();
  }

  // ---- drawing

  /** Pixels of the photo for one pixel on the screen. */
  const scale = () => width / (canvas.getBoundingClientRect().width || width);

  /** Draw with the next frame, however often this is called before. */
  function draw() {
    if (!waiting) requestAnimationFrame(paint);
    waiting = true;
  }

  function paint() {
    waiting = false;
    describe();
    if (!canvas.width) return; // the photo is not there yet
    const context = canvas.getContext("2d");
    const zoom = canvas.width / width;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(photo, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 0.6;
    drawMask(zoom);
    context.drawImage(layer, 0, 0);
    context.globalAlpha = 1;
    context.setTransform(zoom, 0, 0, zoom, 0, 0);
    drawOpenPolygon(context);
    if (cursorShown) drawCursor(context);
  }

  function drawMask(zoom) {
    const context = layer.getContext("2d");
    context.setTransform(zoom, 0, 0, zoom, 0, 0);
    context.clearRect(0, 0, width, height);
    context.lineCap = context.lineJoin = "round";
    context.fillStyle = context.strokeStyle = MARK;
    for (const stroke of [...model.get("strokes"), ...(line ? [brushStroke()] : [])]) {
      if (stroke.tool === "clear") {
        context.clearRect(0, 0, width, height);
        continue;
      }
      context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
      context.beginPath();
      trace(context, stroke.points);
      if (stroke.tool === "polygon") {
        context.fill("evenodd"); // as Pillow fills, where a polygon crosses itself
      } else {
        context.lineWidth = stroke.size;
        context.lineTo(...stroke.points[stroke.points.length - 1]); // a dot too has a length, of 0
        context.stroke();
      }
    }
  }

  function drawOpenPolygon(context) {
    if (!corners.length) return;
    const path = cursorShown ? [...corners, [cursor.x, cursor.y]] : corners;
    twice(context, () => {
      context.beginPath();
      trace(context, path);
      context.stroke();
      for (const [x, y] of corners) {
        context.beginPath();
        context.arc(x, y, 4 * scale(), 0, 7);
        context.stroke();
      }
    });
  }

  function drawCursor(context) {
    const { x, y } = cursor;
    twice(context, () => {
      context.beginPath();
      if (model.get("tool") === "brush") {
        context.arc(x, y, size() / 2, 0, 7);
      } else {
        const arm = 9 * scale();
        trace(context, [[x - arm, y], [x + arm, y]]);
        trace(context, [[x, y - arm], [x, y + arm]]);
      }
      context.stroke();
    });
  }

  /** White on a dark edge, to be seen on every photo. */
  function twice(context, stroke) {
    for (const [colour, thick] of [["#000", 3.5], ["#fff", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = thick * scale();
      stroke();
    }
  }

  // ---- words

  function describe() {
    const tool = model.get("tool");
    for (const name of ["brush", "polygon"]) buttons[name].setAttribute("aria-pressed", String(tool === name));
    buttons.eraser.setAttribute("aria-pressed", String(erase()));
    const nothing = !model.get("strokes").length;
    buttons.undo.disabled = nothing && !corners.length;
    buttons.clear.disabled = nothing;
    slider.value = size();
    sizeText.textContent = `${Math.round(size())} px`;
    const open = corners.length
      ? ` · open polygon of ${corners.length}: click its first corner or press Enter to close it`
      : "";
    const down = line ? " · brush is down" : "";
    const percent = (100 * model.get("_marked")).toFixed(1);
    const text = `${percent} % of the photo (${width} × ${height}) marked${open}${down}`;
    if (status.textContent !== text) status.textContent = text; // or it would be read out at every move
  }

  // ---- pointer

  function at(event) {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left - canvas.clientLeft) / canvas.clientWidth) * width;
    const y = ((event.clientY - box.top - canvas.clientTop) / canvas.clientHeight) * height;
    cursor = { x: clamp(x, width), y: clamp(y, height) };
    return [round(cursor.x), round(cursor.y)];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    cursorShown = true;
    const point = at(event);
    if (model.get("tool") === "polygon") return setCorner(point);
    canvas.setPointerCapture(event.pointerId);
    line = [point];
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    const point = at(event);
    cursorShown = true;
    if (line && event.buttons & 1) line.push(point);
    draw();
  });
  canvas.addEventListener("pointerup", () => line && liftBrush());
  canvas.addEventListener("pointercancel", () => {
    line = null;
    draw();
  });
  canvas.addEventListener("pointerleave", () => {
    cursorShown = document.activeElement === canvas && canvas.matches(":focus-visible");
    draw();
  });
  canvas.addEventListener("dblclick", closePolygon);
  canvas.addEventListener("focus", () => {
    cursorShown = true;
    draw();
  });
  canvas.addEventListener("blur", () => {
    cursorShown = false;
    if (line) liftBrush();
    draw();
  });

  // ---- keys

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function move([dx, dy], far) {
    const step = Math.max(1, Math.max(width, height) / 200) * (far ? 10 : 1);
    cursor = { x: clamp(cursor.x + dx * step, width), y: clamp(cursor.y + dy * step, height) };
    cursorShown = true;
    if (line) line.push([round(cursor.x), round(cursor.y)]);
    draw();
  }

  function press() {
    const point = [round(cursor.x), round(cursor.y)];
    if (model.get("tool") === "polygon") return setCorner(point);
    if (line) return liftBrush();
    line = [point];
    draw();
  }

  const ON_CANVAS = {
    " ": press,
    Enter: () => (model.get("tool") === "polygon" ? closePolygon() : press()),
    Backspace: () => corners.length && undo(),
    Escape: () => {
      corners = [];
      line = null;
      draw();
    },
  };
  const EVERYWHERE = {
    b: () => choose("brush"),
    p: () => choose("polygon"),
    e: () => set("eraser", !erase()),
    "[": () => resize(1 / 1.25),
    "]": () => resize(1.25),
  };
  const resize = (factor) => set("brush_size", Math.min(Math.max(size() * factor, 1), Number(slider.max)));

  parts.root.addEventListener("keydown", (event) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const command = event.ctrlKey || event.metaKey;
    let action = command ? key === "z" && undo : EVERYWHERE[key];
    if (event.target === canvas && !command) {
      action = MOVES[key] ? () => move(MOVES[key], event.shiftKey) : ON_CANVAS[key] || action;
    }
    if (!action || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  });

  // ---- buttons

  buttons.brush.onclick = () => choose("brush");
  buttons.polygon.onclick = () => choose("polygon");
  buttons.eraser.onclick = () => set("eraser", !erase());
  buttons.undo.onclick = undo;
  buttons.clear.onclick = () => {
    corners = [];
    add({ tool: "clear" });
  };
  slider.oninput = () => set("brush_size", Number(slider.value));

  const changes = ["strokes", "tool", "eraser", "brush_size", "_marked"].map((name) => `change:${name}`);
  for (const change of changes) model.on(change, draw);
  return () => {
    for (const change of changes) model.off(change, draw);
    URL.revokeObjectURL(address);
  };
}

// ---- the page

function build(el) {
  const root = element(el, "div", { className: "fss-painter" });
  const bar = element(root, "div", { className: "fss-painter-bar" });
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Drawing tools");
  const buttons = {};
  for (const group of [["brush", "polygon"], ["eraser"], ["undo", "clear"]]) {
    const box = element(bar, "div", { className: "fss-painter-group" });
    for (const name of group) {
      const textContent = name[0].toUpperCase() + name.slice(1);
      buttons[name] = element(box, "button", { type: "button", textContent });
    }
  }
  const label = element(bar, "label", { textContent: "Brush size" });
  const slider = element(label, "input", { type: "range", step: "any" });
  const sizeText = element(label, "span", {});
  const canvas = element(root, "canvas", { tabIndex: 0, width: 0, height: 0 });
  const status = element(root, "div", { className: "fss-painter-status" });
  const help = element(root, "details", { className: "fss-painter-keys" });
  element(help, "summary", { textContent: "Keys" });
  element(help, "div", { textContent: KEYS });
  status.setAttribute("role", "status");
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `Photo to draw a mask on. ${KEYS}`);
  return { root, buttons, slider, sizeText, canvas, status };
}

function element(parent, name, properties) {
  const child = Object.assign(document.createElement(name), properties);
  // JupyterLab's own keys ("d d" deletes the cell) stay out of whatever has the focus here; it asks the element itself
  child.dataset.lmSuppressShortcuts = "true";
  return parent.appendChild(child);
}

function trace(context, points) {
  context.moveTo(...points[0]);
  for (const point of points.slice(1)) context.lineTo(...point);
}

const distance = ([x, y], [u, v]) => Math.hypot(x - u, y - v);
const clamp = (value, most) => Math.min(Math.max(value, 0), most);
const round = (value) => Math.round(value * 10) / 10;

export default { render };
