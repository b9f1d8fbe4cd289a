// The panel: what one can do, and what is shown then.

import { columnOf, readers, rows } from "./attention.js";
import { layOut } from "./layout.js";
import { largest, paintPrior, paintRow, paintScale, paintShares } from "./paint.js";
import { hideSelected, paintWhatIf } from "./whatif.js";
import { tell } from "./words.js";

/** JupyterLab's own keys rest while an element has the focus ("d d" deletes no cell), but not those with Ctrl or Cmd:
 * Ctrl+S saves. JupyterLab asks the focused element itself, whose parents' attributes come too late. */
function restShortcuts({ type, key, target }) {
  const modifier = key === "Control" || key === "Meta";
  if (type === "focusin" || (type === "keyup" && modifier)) target.dataset.lmSuppressShortcuts = "true";
  else if (modifier) delete target.dataset.lmSuppressShortcuts;
}

const within = (value, low, high) => Math.min(Math.max(value, low), high);

export class Panel {
  static count = 0;

  constructor(root, data, pictures, store) {
    Object.assign(this, { root, data, pictures, store, preview: null, reading: null, drag: null, milliseconds: 0 });
    this.name = `${data.id}-${Panel.count++}`; // also of two views of one explorer on a page
    this.outlines = new Map();
    this.notesOpen = false;
    this.root.classList.add("fx");
    this.resize = new ResizeObserver(() => this.measure());
    this.resize.observe(root);
    for (const type of ["focusin", "keydown", "keyup"]) root.addEventListener(type, restShortcuts);
    this.receive();
  }

  close() {
    this.resize.disconnect();
    this.root.replaceChildren();
  }

  /** Take selection and view from the store, which may have changed outside. */
  receive() {
    const selection = this.store.get("selection");
    const view = this.store.get("view");
    if (JSON.stringify([selection, view]) === JSON.stringify([this.selection, this.view])) return; // our own change
    this.selection = structuredClone(selection);
    this.view = structuredClone(view);
    if (this.forward) this.lastQuery = this.selection;
    this.build();
  }

  /** Make all elements anew, for the present view; the focus stays where it was. */
  build() {
    this.preview = this.reading = this.drag = this.at = null; // they belong to the old elements
    const active = this.root.getRootNode().activeElement;
    const focus = this.root.contains(active) && active.dataset.focus; // another panel keeps its own
    layOut(this);
    if (focus) this.root.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    this.measure();
  }

  measure() {
    this.tiles.forEach((tile) => tile.measure());
    this.refresh();
  }

  // -- what is shown --

  get runs() {
    const named = (name) => this.data.runs.find((run) => run.name === name);
    return [named(this.view.run), ...(this.view.against === null ? [] : [named(this.view.against)])];
  }

  /** Forward: one cell of the query asks all of the memory. Else a cell of the memory, whom it answers. */
  get forward() {
    return this.selection.map === "query";
  }

  cellsOf({ cell, end }) {
    const [top, bottom] = [Math.min(cell[0], end[0]), Math.max(cell[0], end[0])];
    const [left, right] = [Math.min(cell[1], end[1]), Math.max(cell[1], end[1])];
    const cells = [];
    for (let row = top; row <= bottom; row++)
      for (let column = left; column <= right; column++) cells.push([row, column]);
    return { cells, from: [top, left], to: [bottom, right] };
  }

  /** Weights before and after calibration: rows of the attention, or columns; null if there is no such column. */
  answer(layer, chosen) {
    const { cells } = this.cellsOf(chosen);
    const { grid, strength } = this.data;
    if (chosen.map === "query") return rows(layer, strength, cells.map(([row, column]) => row * grid[1] + column));
    const keys = cells.map(([row, column]) => columnOf(layer, grid, chosen.map, chosen.shot, row, column));
    return keys.includes(null) ? null : readers(layer, strength, keys);
  }

  refresh() {
    const started = performance.now();
    const chosen = this.preview ?? this.selection;
    const answers = new Map();
    for (const run of this.runs) for (const layer of run.layers) answers.set(layer, this.answer(layer, chosen));
    this.maps = this.rows.map((row) => this.mapsOf(row, answers.get(row.layer), chosen));
    const top = Math.max(
      0,
      ...this.maps.flatMap(({ support = [], memory = [], query = [] }) => [...support, memory, query].map(largest)),
    );
    this.rows.forEach((row, i) => paintRow(this, row, this.maps[i], chosen, top));
    paintScale(this, top);
    paintShares(this, answers, chosen);
    paintPrior(this);
    if (chosen === this.selection) paintWhatIf(this); // a hover asks nothing of the kernel
    tell(this, answers, chosen);
    this.milliseconds = performance.now() - started;
  }

  /** The kernel has answered. */
  paintAnswers() {
    paintWhatIf(this);
  }

  pick({ before, after }) {
    const { show } = this.view;
    return show === "difference" ? after.map((weight, i) => weight - before[i]) : show === "before" ? before : after;
  }

  /** The arrays that a row draws: {query} in reverse, else {support: one for each block, memory, pointers}. */
  mapsOf({ run, layer }, answer, chosen) {
    if (answer === null) return {};
    const values = this.pick(answer);
    const cells = this.data.grid[0] * this.data.grid[1];
    if (chosen.map !== "query") return { query: values };
    const { support, query, pointers } = layer.columns;
    const blocks = [...Array(run.blocks).keys()].map((block) =>
      values.subarray(support[0] + block * cells, support[0] + (block + 1) * cells),
    );
    return { support: blocks, memory: values.subarray(...query), pointers: values.subarray(...pointers) };
  }

  // -- what one can do --

  /** Select something, show it and let the outside know. */
  select(change) {
    this.selection = { ...this.selection, ...change };
    this.preview = this.reading = null;
    if (this.forward) this.lastQuery = this.selection;
    this.store.set("selection", structuredClone(this.selection));
    if ("layer" in change) this.build();
    else this.refresh();
  }

  change(name, value) {
    const swap = name === "run" && value === this.view.against; // a run does not stand beside itself
    this.view = { ...this.view, [name]: value, ...(swap && { against: this.view.run }) };
    this.store.set("view", structuredClone(this.view));
    if (name === "round")
      this.refresh(); // its slider must not be replaced while it is being drawn
    else this.build();
  }

  listen(info, type, event, tile) {
    const cell = event.clientX === undefined ? null : tile.cellAt(event),
      { map, shot = 0, row = null } = info;
    if (type === "pointerdown" && map !== "prior" && event.button === 0) {
      tile.canvas.setPointerCapture(event.pointerId);
      this.drag = { tile, cell };
      this.select({ map, shot, cell, end: cell });
    } else if (type === "pointermove") {
      this.point({ map, shot, row, cell }, tile);
    } else if (type === "pointerup" && this.drag) {
      this.drag = null;
      this.select({});
    } else if (type === "pointercancel" || (type === "pointerleave" && !this.drag) || type === "blur") {
      this.preview = this.reading = this.drag = this.at = null;
      this.refresh();
    } else if (type === "keydown") {
      this.press(event, { map, shot, row }, tile.grid);
    }
  }

  /** The pointer is over a cell: on the asking side it previews or drags, on the other it reads. */
  point(target, tile) {
    const at = [target.map, target.shot, this.rows.indexOf(target.row), ...target.cell].join();
    if (at === this.at) return;
    this.at = at;
    if (this.drag) {
      if (this.drag.tile !== tile) return;
      this.selection = { ...this.selection, end: target.cell };
    } else {
      const asks = target.map !== "prior" && (target.map === "query") === this.forward;
      this.preview = asks
        ? { ...this.selection, map: target.map, shot: target.shot, cell: target.cell, end: target.cell }
        : null;
      this.reading = asks && target.map === "query" ? null : target;
    }
    this.refresh();
  }

  press(event, target, grid) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[event.key];
    const mine = target.map === this.selection.map && (target.map !== "support" || target.shot === this.selection.shot);
    const step = ([row, column]) => [within(row + move[0], 0, grid[0] - 1), within(column + move[1], 0, grid[1] - 1)];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (move && mine) {
      const end = step(this.selection.end);
      this.select(event.shiftKey ? { end } : { cell: end, end });
    } else if (move) {
      const same = this.reading?.map === target.map && this.reading.shot === target.shot;
      const fresh = target.map === "pointers" ? [0, 0] : (this.lastQuery?.cell ?? [0, 0]);
      this.reading = { ...target, cell: same ? step(this.reading.cell) : fresh };
      this.refresh();
    } else if (["Enter", " "].includes(event.key) && target.map !== "prior" && this.reading?.map === target.map) {
      this.select({ map: target.map, shot: target.shot, cell: this.reading.cell, end: this.reading.cell });
    } else if (event.key === "h") {
      hideSelected(this);
    } else if (event.key === "Escape") {
      const { cell } = this.lastQuery ?? { cell: [0, 0] };
      this.select({ map: "query", shot: 0, cell, end: cell });
    } else if (/^[1-9]$/.test(event.key)) {
      this.select({ layer: Math.min(Number(event.key), this.data.runs[0].layers.length) - 1 });
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
