// What the panel says in words: the selection, and the memory cell under the pointer.

import { columnOf, shares } from "./attention.js";
import { make, percent } from "./drawing.js";
import { PARTS, roundOf } from "./paint.js";

const CELL = {
  query: "Query cell",
  support: "Support cell",
  memory: "Query-memory cell",
  pointers: "Pointer token",
  prior: "Prior at",
};
const place = ([row, column]) => `(${row}, ${column})`;
const number = (value) => (Number.isNaN(value) ? "not a number" : value.toFixed(2).replace("-", "−"));

/** What the selection reads, or who reads it: one line for each row of maps. */
export function tell(panel, answers, chosen) {
  const { from, to, cells } = panel.cellsOf(chosen);
  const { show } = panel.view;
  const when = show === "difference" ? "after minus before calibration" : `${show} calibration`;
  let where = chosen.map === "pointers" ? `${from[1] + 1}` : place(from);
  if (cells.length > 1) {
    where += ` to ${chosen.map === "pointers" ? to[1] + 1 : place(to)}, mean of ${cells.length},`;
  }
  const head = `${CELL[chosen.map]} ${where} ${chosen.map === "query" ? "reads" : "is read"}, ${when}`;
  const lines = panel.rows.map((row) => `${row.title}: ${lineOf(panel, row, answers.get(row.layer), chosen)}`);
  panel.summary.replaceChildren(make("strong", {}, head), ...lines.map((line) => make("div", {}, line)));
  const empty =
    chosen.map === "query"
      ? "Click a query cell to keep it. Point at a memory cell for its numbers, click it to see who reads it."
      : "Point at a query cell for its numbers, click it to see what it reads.";
  panel.read.textContent = panel.reading ? describe(panel, panel.reading, answers, chosen) : empty;
}

function lineOf(panel, { run, layer }, answer, chosen) {
  if (answer === null) return "this run has no such memory.";
  const values = panel.pick(answer);
  if (chosen.map === "query") {
    const parts = shares(run, layer, values).map((share, i) => `${PARTS[i]} ${percent(share)}`);
    return (run.queryMemory ? parts : [parts[0], parts[3]]).join(" · ");
  }
  const most = values.indexOf(values.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0));
  const cell = [Math.floor(most / panel.data.grid[1]), most % panel.data.grid[1]];
  const [inside, outside] = meansBy(values, run.foreground.map);
  const means = `mean of the object's cells (by ${run.foreground.of}) ${percent(inside)} · of the others ${percent(outside)}`;
  return `most by query cell ${place(cell)}, ${percent(values[most])} · ${means}`;
}

/** Everything there is to know of one cell. */
function describe(panel, { map, shot, cell, row }, answers, chosen) {
  const { grid } = panel.data;
  const at = cell[0] * grid[1] + cell[1];
  const run = row ? row.run : panel.runs[0];
  const words = [];
  if (row) {
    const answer = answers.get(row.layer);
    const key = map === "query" ? null : columnOf(row.layer, grid, map, shot, ...cell);
    if (map === "query" && answer && chosen.map !== "query") {
      words.push(`gives ${percent(answer.before[at])} before, ${percent(answer.after[at])} after`);
    } else if (key !== null && chosen.map === "query") {
      words.push(`weight ${percent(answer.before[key])} before, ${percent(answer.after[key])} after`);
      if (row.layer.biased) words.push(`bias ${number(answer.bias[key])} nats`);
    }
    const { biased } = row.layer;
    if (biased && key !== null && key >= biased[0] && key < biased[1]) {
      words.push(...calibrationOf(panel, row.layer, key - biased[0]));
    }
  }
  if (map === "prior" || map === "memory") {
    const step = map === "prior" ? roundOf(panel, run) : run.priors.length - 1;
    if (step >= 0) words.push(`prior ${number(run.priors[step].map[at])} ${run.priors[step].name}`);
    if (run.likeSupport) words.push(`like the support's object (A) ${number(run.likeSupport[at])}`);
    if (map === "prior" && step > 0) {
      const { similarity, weight } = run.rounds[step - 1];
      words.push(`like the prior's object (B) ${number(similarity[at])}`, `weight W ${number(weight[at])}`);
    }
  }
  const name = `${CELL[map]} ${map === "pointers" ? cell[1] + 1 : place(cell)}`;
  const what = words.length ? `: ${words.join(" · ")}` : ""; // in the reverse some cells have no number of their own
  return `${row && panel.rows.length > 1 ? `${row.title}, ` : ""}${name}${what}`;
}

/** The calibration term c and the similarity c_i to each shot, mean over the heads. */
function calibrationOf(panel, layer, at) {
  const cells = panel.data.grid[0] * panel.data.grid[1];
  const heads = [...Array(layer.heads).keys()];
  const mean = (values, stride, offset) =>
    heads.reduce((sum, head) => sum + values[head * stride + offset], 0) / heads.length;
  const shots = layer.shotSimilarity.length / layer.heads / cells;
  const similarities = [...Array(shots).keys()].map((i) => mean(layer.shotSimilarity, shots * cells, i * cells + at));
  const similar = similarities.map((value, i) => (shots > 1 ? `shot ${i + 1} ${number(value)}` : number(value))).join(", ");
  return [`calibration term c ${number(mean(layer.calibration, cells, at))}`, `support similarity ${similar}`];
}

/** Mean of values where a map is 1, and where it is 0. */
function meansBy(values, map) {
  const sums = [0, 0];
  const counts = [0, 0];
  values.forEach((value, i) => {
    sums[map[i] ? 0 : 1] += value;
    counts[map[i] ? 0 : 1] += 1;
  });
  return sums.map((sum, i) => (counts[i] ? sum / counts[i] : 0));
}
