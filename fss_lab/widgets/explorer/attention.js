// The numbers behind the panel: rows and columns of the attention, computed from queries and keys.
// Nothing here knows of a page; Node runs it too.
//
// N = h * w query cells, L key columns [support blocks | query memory | pointers], d channels per head.

const HALF = new Float32Array(65536); // every float16 as float32
for (let bits = 0; bits < 65536; bits++) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) HALF[bits] = fraction ? NaN : sign * Infinity;
  else HALF[bits] = sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** A description whose references {"$": type, at, bytes} are replaced by what they stand for in the bytes. */
export function unpack(description, bytes) {
  const resolved = new Map(); // what is referred to twice becomes one object
  const resolve = (node) => {
    if (Array.isArray(node)) return node.map(resolve);
    if (node === null || typeof node !== "object") return node;
    if (!("$" in node)) return Object.fromEntries(Object.entries(node).map(([key, item]) => [key, resolve(item)]));
    const key = `${node.$} ${node.at}`;
    if (!resolved.has(key)) resolved.set(key, content(node, bytes.slice(node.at, node.at + node.bytes)));
    return resolved.get(key);
  };
  return resolve(description);
}

/** part: bytes in a buffer of their own, so that they start at a multiple of the item size. */
function content(node, part) {
  if (node.$ === "f4") return new Float32Array(part.buffer);
  if (node.$ === "f2") {
    const halves = new Uint16Array(part.buffer);
    const values = new Float32Array(halves.length);
    for (let i = 0; i < halves.length; i++) values[i] = HALF[halves[i]];
    return values;
  }
  if (node.$ === "bits") return { ...node, bits: part };
  if (node.$ === "image") return { ...node, file: part };
  return part;
}

function dot(a, i, b, j, d) {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let c = 0;
  for (; c + 3 < d; c += 4) {
    s0 += a[i + c] * b[j + c];
    s1 += a[i + c + 1] * b[j + c + 1];
    s2 += a[i + c + 2] * b[j + c + 2];
    s3 += a[i + c + 3] * b[j + c + 3];
  }
  for (; c < d; c++) s0 += a[i + c] * b[j + c];
  return s0 + s1 + s2 + s3;
}

function addSoftmax(logits, share, total) {
  let top = -Infinity;
  let sum = 0;
  for (const value of logits) if (value > top) top = value;
  for (let j = 0; j < logits.length; j++) sum += logits[j] = Math.exp(logits[j] - top);
  for (let j = 0; j < logits.length; j++) total[j] += (logits[j] / sum) * share;
}

/** 10 * min(0, a + c - 1): what the calibration takes from a logit; a is the logit's place in its row's range. */
function bias(logit, low, high, term, strength) {
  return strength * Math.min(0, (logit - low) / (high - low + 1e-7) + term - 1);
}

const lengthOf = (layer) => layer.columns.pointers[1];

/**
 * What query cells give to each column, mean over the cells and over the heads.
 * Returns {before, after, bias}, each of L numbers; the weights sum to 1, the bias is in nats.
 */
export function rows(layer, strength, cells) {
  const { channels: d, q, k, scale, biased, calibration: term } = layer;
  const length = lengthOf(layer);
  const n = q.length / layer.heads / d;
  const before = new Float32Array(length);
  const after = new Float32Array(length);
  const taken = new Float32Array(length);
  const logits = new Float32Array(length);
  const share = 1 / layer.heads / cells.length;
  for (let h = 0; h < layer.heads; h++) {
    for (const cell of cells) {
      for (let j = 0; j < length; j++) logits[j] = dot(q, (h * n + cell) * d, k, (h * length + j) * d, d) * scale;
      const plain = biased ? logits.slice() : logits;
      if (biased) {
        let low = Infinity;
        let high = -Infinity;
        for (let j = biased[0]; j < biased[1]; j++) {
          if (logits[j] < low) low = logits[j];
          if (logits[j] > high) high = logits[j];
        }
        for (let j = biased[0]; j < biased[1]; j++) {
          const less = bias(logits[j], low, high, term[h * n + j - biased[0]], strength);
          taken[j] += less * share;
          logits[j] += less;
        }
        addSoftmax(logits, share, after);
      }
      addSoftmax(plain, share, before);
    }
  }
  return { before, after: biased ? after : before, bias: taken };
}

/**
 * What every query cell gives to key columns, mean over the columns and over the heads.
 * Returns {before, after}, each of N numbers.
 */
export function readers(layer, strength, keys) {
  const { channels: d, q, k, scale, biased, calibration: term } = layer;
  const length = lengthOf(layer);
  const n = q.length / layer.heads / d;
  const before = new Float32Array(n);
  const after = new Float32Array(n);
  const share = 1 / layer.heads / keys.length;
  for (let h = 0; h < layer.heads; h++) {
    for (const key of keys) {
      const reached = biased && key >= biased[0] && key < biased[1];
      for (let i = 0; i < n; i++) {
        const logit = dot(q, (h * n + i) * d, k, (h * length + key) * d, d) * scale;
        const row = (h * n + i) * 4;
        const [sum, sumAfter, low, high] = layer.rows.subarray(row, row + 4);
        const less = reached ? bias(logit, low, high, term[h * n + key - biased[0]], strength) : 0;
        before[i] += Math.exp(logit - sum) * share;
        after[i] += Math.exp(logit + less - sumAfter) * share;
      }
    }
  }
  return { before, after };
}

/** The mass of weights (L) on support memory, the query memory's object and background, and object pointers. */
export function shares(run, layer, weights) {
  const { support, query, pointers } = layer.columns;
  const inside = run.foreground.map;
  const sum = ([from, to]) => weights.subarray(from, to).reduce((total, weight) => total + weight, 0);
  let object = 0;
  for (let j = query[0]; j < query[1]; j++) object += weights[j] * inside[j - query[0]];
  return [sum(support), object, sum(query) - object, sum(pointers)];
}

/** The column of a cell of a support block ("support"), of the query memory ("memory") or of a pointer token. */
export function columnOf(layer, grid, map, shot, row, column) {
  const { support, query, pointers } = layer.columns;
  const cell = row * grid[1] + column;
  if (map === "support") {
    const key = support[0] + shot * grid[0] * grid[1] + cell;
    return key < support[1] ? key : null;
  }
  const [from, to] = map === "memory" ? query : pointers;
  return from + cell < to ? from + cell : null;
}

/** Who gives the weights (N) that a memory cell gets: [0, query cells of the object, other query cells, 0], of 1. */
export function sources(run, weights) {
  const inside = run.foreground.map;
  let object = 0;
  let all = 0;
  weights.forEach((weight, i) => {
    object += weight * inside[i];
    all += weight;
  });
  return all > 0 ? [0, object / all, 1 - object / all, 0] : [0, 0, 0, 0];
}
