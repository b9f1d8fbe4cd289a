// Canvases: a picture with a heat map, outlines and marked cells on it; bars; a colour scale.

/** An element with attributes and children; text is always text, never markup. Properties starting with "on" listen. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** A share in percent with two to three digits. */
export const percent = (share) => {
  const value = Math.abs(share * 100);
  const sign = share < 0 ? "−" : "";
  const rounded = value >= 9.95 ? value.toFixed(1) : `${Number(value.toPrecision(2))}`;
  const number = value > 0 && value < 0.000995 ? powerOfTen(value, 1) : rounded;
  return `${sign}${number}\u00a0%`; // which no line break parts
};

/** A small number with its power of ten, as in 3·10⁻⁴. digits: after the point. */
export const powerOfTen = (value, digits) => {
  const [factor, power] = value.toExponential(digits).split("e-");
  return `${factor}·10⁻${[...power].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`;
};

/** The pictures of a description, decoded: in colour for the query, grey and dark to carry a heat map. */
export async function decodePicture(image) {
  if (!image) return null;
  const bitmap = await createImageBitmap(new Blob([image.file]));
  const grey = new OffscreenCanvas(image.width, image.height);
  const context = grey.getContext("2d", PLAIN);
  context.drawImage(bitmap, 0, 0, image.width, image.height);
  const pixels = context.getImageData(0, 0, image.width, image.height);
  const { data } = pixels;
  for (let i = 0; i < data.length; i += 4) {
    data[i] = data[i + 1] = data[i + 2] = 0.3 * data[i] + 0.59 * data[i + 1] + 0.11 * data[i + 2];
  }
  context.putImageData(pixels, 0, 0);
  return { colour: bitmap, grey, aspect: image.width / image.height };
}

/** The border of a mask as line segments [x1, y1, x2, y2, ...] in 0..1 (marching squares). */
export function outlineOf(mask) {
  if (!mask) return null;
  const { width, height, bits } = mask;
  const lines = [];
  const at = (x, y) =>
    x >= 0 && y >= 0 && x < width && y < height && (bits[(y * width + x) >> 3] >> (7 - ((y * width + x) & 7))) & 1;
  for (let y = -1; y < height; y++) {
    for (let x = -1; x < width; x++) {
      const code = at(x, y) | (at(x + 1, y) << 1) | (at(x + 1, y + 1) << 2) | (at(x, y + 1) << 3);
      const ends = { T: [x + 1, y + 0.5], R: [x + 1.5, y + 1], B: [x + 1, y + 1.5], L: [x + 0.5, y + 1] };
      for (const side of CONTOURS[code]) {
        const [px, py] = ends[side];
        lines.push(Math.min(Math.max(px / width, 0), 1), Math.min(Math.max(py / height, 0), 1));
      }
    }
  }
  return Float32Array.from(lines);
}
// Which sides of a square (top, right, bottom, left) a line joins, by which of its corners are inside.
const CONTOURS = ["", "LT", "TR", "LR", "RB", "LTRB", "TB", "LB", "BL", "TB", "TRBL", "RB", "RL", "TR", "TL", ""];

/** A palette from left to right, for a style sheet. */
export const gradientOf = (palette) => {
  const stops = [...Array(17).keys()].map((i) => palette.subarray(3 * Math.min(16 * i, 255)).subarray(0, 3));
  return `linear-gradient(to right, ${stops.map((stop) => `rgb(${stop.join(" ")})`).join(", ")})`;
};

/** Where a value lies in its palette, 0..1, by its logarithm: a function of the value. top: the largest magnitude. */
export function scaleOf(kind, top) {
  const limit = top > 0 ? top : 1;
  if (kind === "prior") return (value) => value;
  if (kind === "difference") {
    const size = (x) => Math.log1p(x * 1000) / Math.log1p(1000);
    return (value) => 0.5 + 0.5 * Math.sign(value) * size(Math.min(Math.abs(value) / limit, 1));
  }
  return (value) => Math.max(0, 1 + Math.log10(Math.max(value, 0) / limit) / DECADES);
}
export const DECADES = 4;

/** How much of the picture a map hides at a place of its palette: where there is nothing to see it hides less. */
const cover = (kind, place) =>
  kind === "difference" ? 60 + 380 * Math.abs(place - 0.5) : kind === "prior" ? 40 + 200 * place : 150 + 90 * place;

const PLAIN = { willReadFrequently: true }; // kept in memory: small canvases are redrawn faster there than on a GPU

/** A stroke on a wider one of another colour, to be seen on every ground. */
function rimmed(context, rim, wide, colour, narrow, stroke) {
  Object.assign(context, { strokeStyle: rim, lineWidth: wide });
  stroke();
  Object.assign(context, { strokeStyle: colour, lineWidth: narrow });
  stroke();
}

function strokeLines(context, lines, width, height, colour, ratio) {
  context.beginPath();
  for (let i = 0; i < lines.length; i += 4) {
    context.moveTo(lines[i] * width, lines[i + 1] * height);
    context.lineTo(lines[i + 2] * width, lines[i + 3] * height);
  }
  context.lineCap = "round";
  rimmed(context, "rgba(255,255,255,0.85)", 3.6 * ratio, colour, 1.9 * ratio, () => context.stroke());
}

const POINTER = ["down", "move", "up", "cancel", "leave"].map((change) => `pointer${change}`);
const EVENTS = [...POINTER, "keydown", "blur"];

/** A canvas over a grid of cells that one can point at, drag over and walk through with the arrow keys. */
export class Tile {
  constructor(grid, label, aspect, listener) {
    this.grid = grid;
    this.heat = new OffscreenCanvas(grid[1], grid[0]);
    this.pixels = new ImageData(grid[1], grid[0]);
    this.layers = new Map();
    this.canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": label, class: "fx-tile" });
    this.canvas.style.aspectRatio = aspect;
    for (const type of EVENTS) {
      this.canvas.addEventListener(type, (event) => listener(type, event, this));
    }
  }

  cellAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const place = (at, size, count) => Math.min(Math.max(Math.floor((at / size) * count), 0), count - 1);
    return [
      place(event.clientY - box.top, box.height, this.grid[0]),
      place(event.clientX - box.left, box.width, this.grid[1]),
    ];
  }

  /** Make the canvas as sharp as the page shows it; to be called when the page has laid it out anew. */
  measure() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width === width && canvas.height === height) return;
    Object.assign(canvas, { width, height });
    this.layers.clear();
  }

  begin() {
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d", PLAIN);
    context.clearRect(0, 0, width, height);
    return [context, width, height, window.devicePixelRatio || 1];
  }

  /** What stays the same from one cell to the next, at the canvas's size: drawn once, then only copied. */
  cached(key, paint) {
    if (!this.layers.has(key)) {
      const { width, height } = this.canvas;
      const layer = new OffscreenCanvas(width, height);
      paint(layer.getContext("2d", PLAIN), width, height);
      this.layers.set(key, layer);
    }
    return this.layers.get(key);
  }

  /** picture: of decodePicture; map: {values, kind, scale, palette}; outlines: [[lines, colour]]; marks: [[from, to]]. */
  draw({ picture, map, outlines = [], marks = [], dim = false }) {
    const [context, width, height, ratio] = this.begin();
    const image = picture && (map || dim ? picture.grey : picture.colour);
    if (image) {
      const ground = this.cached(image, (layer) => layer.drawImage(image, 0, 0, width, height));
      context.drawImage(ground, 0, 0);
    } else {
      context.fillStyle = map && map.kind !== "weight" ? "#ffffff" : "#777777";
      context.fillRect(0, 0, width, height);
    }
    if (map) this.drawMap(context, width, height, map, Boolean(picture));
    for (const [lines, colour] of outlines) {
      const layer = this.cached(lines, (canvas) => strokeLines(canvas, lines, width, height, colour, ratio));
      context.drawImage(layer, 0, 0);
    }
    for (const [from, to] of marks) this.mark(context, width, height, from, to, ratio);
  }

  drawMap(context, width, height, { values, kind, scale, palette }, seeThrough) {
    const { data } = this.pixels;
    const missing = [];
    for (let i = 0; i < values.length; i++) {
      const place = Math.min(Math.max(scale(values[i]), 0), 1);
      const colour = 3 * Math.round(place * 255);
      if (Number.isNaN(place)) missing.push(i);
      data[4 * i] = palette[colour];
      data[4 * i + 1] = palette[colour + 1];
      data[4 * i + 2] = palette[colour + 2];
      data[4 * i + 3] = Number.isNaN(place) ? 0 : seeThrough ? cover(kind, place) : 255;
    }
    this.heat.getContext("2d", PLAIN).putImageData(this.pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.heat, 0, 0, width, height);
    context.imageSmoothingEnabled = true;
    if (missing.length) this.cross(context, width / this.grid[1], height / this.grid[0], missing);
  }

  /** Crosses in the cells for which there is no number. */
  cross(context, wide, high, cells) {
    context.strokeStyle = "#e00000";
    context.beginPath();
    for (const cell of cells) {
      const x = (cell % this.grid[1]) * wide;
      const y = Math.floor(cell / this.grid[1]) * high;
      context.moveTo(x, y);
      context.lineTo(x + wide, y + high);
      context.moveTo(x + wide, y);
      context.lineTo(x, y + high);
    }
    context.stroke();
  }

  mark(context, width, height, [top, left], [bottom, right], ratio) {
    const high = height / this.grid[0];
    const wide = width / this.grid[1];
    const box = [left * wide, top * high, (right - left + 1) * wide, (bottom - top + 1) * high];
    context.lineJoin = "round";
    rimmed(context, "#000000", 4 * ratio, "#ffffff", 1.8 * ratio, () => context.strokeRect(...box));
  }

  /** Bars instead of a map, one for each column of the grid. place: of scaleOf; signed bars grow from the middle. */
  drawBars(values, place, signed, colours, marks = []) {
    const [context, width, height, ratio] = this.begin();
    const wide = width / values.length;
    const zero = signed ? height / 2 : height - ratio;
    values.forEach((value, i) => {
      const size = signed ? (place(value) - 0.5) * height : place(value) * (height - 2 * ratio);
      context.fillStyle = colours(value, i);
      context.fillRect(i * wide + 0.12 * wide, zero - Math.max(size, 0), 0.76 * wide, Math.max(Math.abs(size), ratio));
    });
    for (const [from, to] of marks) this.mark(context, width, height, [0, from[1]], [0, to[1]], ratio);
  }
}
