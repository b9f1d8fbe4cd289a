// Drawing what the panel shows now: maps, bars, the colour scale, the chart of shares, the prior.

import { shares, sources } from "./attention.js";
import { DECADES, gradientOf, outlineOf, percent, scaleOf } from "./drawing.js";

export const PARTS = ["support memory", "query memory: object", "query memory: background", "pointers"];
const READERS = ["", "query cells of the object", "query cells of the background", ""];
export const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
export const roundOf = (panel, run) => Math.min(panel.view.round, run.priors.length - 1);
const total = (values) => values.reduce((sum, value) => sum + value, 0);

/** maps: of Panel.mapsOf; top: the largest weight of all maps. */
export function paintRow(panel, row, maps, chosen, top) {
  const { run, layer } = row;
  const kind = panel.view.show === "difference" ? "difference" : "weight";
  const scale = scaleOf(kind, top);
  const { from, to } = panel.cellsOf(chosen);
  const marks = (map, shot = 0) => {
    const same = (other) => other?.map === map && (map !== "support" || shot === other.shot);
    const boxes = same(chosen) ? [[from, to]] : [];
    return same(panel.reading) ? [...boxes, [panel.reading.cell, panel.reading.cell]] : boxes;
  };
  const paint = (figure, image, values, outlines, boxes, dim) => {
    const map = values && { values, kind, scale, palette: panel.data.palettes[kind] };
    figure.tile.draw({ picture: panel.pictures.get(image), map, outlines, marks: boxes, dim });
    figure.numbers.textContent = values ? `${percent(total(values))} in all, largest ${percent(largest(values))}` : "";
  };
  const onQuery = queryLines(panel, run);

  paint(row.query, run.query, maps.query, onQuery, marks("query"), false);
  if (maps.query) row.query.numbers.textContent = `largest ${percent(largest(maps.query))}`;
  row.support.forEach((figure, block) => {
    const shot = run.blocks === 1 ? Math.min(panel.view.shot, run.shots - 1) : block;
    const lines = linesOf(panel, [["support", run.supportMasks[shot]]]);
    paint(figure, run.supports[shot], maps.support?.[block], lines, marks("support", block), true);
  });
  if (row.memory) paint(row.memory, run.query, maps.memory, onQuery, marks("memory"), true);

  const bars = maps.pointers ?? new Float32Array(layer.columns.pointers[1] - layer.columns.pointers[0]);
  const colour = (value) => (kind === "weight" ? "#8a8a8a" : value < 0 ? "#4393c3" : "#d6604d");
  const place = scaleOf(kind, largest(bars));
  row.pointers.tile.drawBars(bars, place, kind === "difference", colour, marks("pointers"));
  const sums = `${percent(total(bars))} in all, tallest ${percent(largest(bars))}`; // on a scale of their own
  row.pointers.numbers.textContent = maps.pointers ? sums : "";
}

function linesOf(panel, masks) {
  const wanted = masks.filter(([name, mask]) => mask && panel.view.outlines.includes(name));
  return wanted.map(([name, mask]) => {
    if (!panel.outlines.has(mask)) panel.outlines.set(mask, outlineOf(mask));
    return [panel.outlines.get(mask), panel.data.colours[name]];
  });
}

const queryLines = (panel, run) =>
  linesOf(panel, Object.entries({ truth: run.truth, prediction: run.prediction }));

/** top: the largest weight of all maps. */
export function paintScale(panel, top) {
  const { show } = panel.view;
  const { bar, low, high, what } = panel.scale;
  bar.style.background = gradientOf(panel.data.palettes[show === "difference" ? show : "weight"]);
  low.textContent = percent(show === "difference" ? -top : top / 10 ** DECADES);
  high.textContent = percent(top);
  const name = {
    before: "attention weight before calibration, from the same logits without the bias",
    after: "attention weight after calibration",
    difference: "after minus before, percentage points",
  }[show];
  what.textContent = `${name}, log scale`;
}

/** Forward: where the mass goes. In reverse: whose reading the memory cell gets, of all that it gets. */
export function paintShares(panel, answers, chosen) {
  const forward = chosen.map === "query";
  panel.chartTitle.textContent = forward
    ? "Where the mass goes, percent, in every layer"
    : "Who reads it, percent, in every layer";
  const parts = forward ? PARTS : READERS;
  panel.chartWords.forEach((word, i) => {
    word.textContent = parts[i];
    word.parentElement.hidden = !parts[i];
  });
  for (const { run, layer, bars, item } of panel.shareBars) {
    const answer = answers.get(layer);
    item.classList.toggle("fx-current", run.layers.indexOf(layer) === panel.selection.layer);
    for (const [when, segments] of Object.entries(bars)) {
      const masses = !answer ? [0, 0, 0, 0] : forward ? shares(run, layer, answer[when]) : sources(run, answer[when]);
      masses.forEach((share, i) => {
        segments[i].style.width = `${100 * share}%`;
        segments[i].textContent = share > 0.075 ? `${Math.round(100 * share)}` : "";
        segments[i].title = `${parts[i]}, ${when}: ${percent(share)}`;
      });
    }
  }
}

export function paintPrior(panel) {
  if (!panel.prior) return;
  const [run] = panel.runs;
  const { name, map } = run.priors[roundOf(panel, run)];
  const read = panel.reading?.map === "prior" ? panel.reading.cell : null;
  panel.prior.tile.draw({
    picture: panel.pictures.get(run.query),
    map: { values: map, kind: "prior", scale: scaleOf("prior"), palette: panel.data.palettes.prior },
    outlines: queryLines(panel, run),
    marks: read ? [[read, read]] : [],
  });
  panel.prior.numbers.textContent = name;
  panel.prior.slider.setAttribute("aria-valuetext", name);
}
