// What if: the mask without a part of the memory, what the selected query cells need, and the lens over the layers.
// The kernel computes; a page shows what was computed before it was saved.

import { Tile, make, outlineOf, percent, scaleOf } from "./drawing.js";
import { largest } from "./paint.js";

const WITHOUT = { support: "the support memory", memory: "the query memory", pointers: "the object pointers" };
const EXPLAINED =
  "What is hidden is hidden in every layer. Needed: red cells lower the logit when they are hidden, blue raise it.";
const NEEDS_KERNEL =
  "The buttons need Python: a notebook whose kernel made the explorer from a prediction. What was computed before is below.";

/** The section with its buttons; what they show is painted when the answers have come. */
export function whatIfOf(panel) {
  const [run] = panel.runs;
  const button = (name, text, onclick) => {
    const type = "button";
    return make("button", { type, class: "fx-shot", disabled: !mayAsk(panel, run), "data-focus": name, onclick }, text);
  };
  const whole = Object.keys(WITHOUT).filter((map) => map !== "memory" || run.queryMemory);
  const name = (map) => WITHOUT[map].replace("the ", "");
  const set = (label, ...buttons) => make("div", { class: "fx-shots" }, label, ...buttons);
  const bar = make("progress", { max: 1, value: 0, hidden: true, "aria-label": "sweep over the memory's cells" });
  const strips = { hide: strip(), needed: strip(), lens: strip() };
  const said = make("div", { class: "fx-small", role: "status" });
  const hideBlock = (map) => button(`hide:${map}`, name(map), () => ask(panel, hiding(panel, map, null, null, null)));
  const hideCells = button("hide:cells", "selected memory cells (h)", () => hideSelected(panel));
  const need = button("needed", "what the query cells need", () => askNeeded(panel));
  const see = button("lens", "the lens: a mask for every layer", () => ask(panel, ["lens", run.name]));
  const sets = [set("hide", hideCells, ...whole.map(hideBlock)), set("measure", need, see)];
  const tools = make("div", { class: "fx-tools" }, ...sets, bar);
  panel.whatIf = { bar, said, strips, painted: new Map() };
  const title = make("div", { class: "fx-name" }, "What if");
  return make("section", { class: "fx-whatif" }, title, tools, said, strips.hide, strips.needed, strips.lens);
}

const strip = () => make("div", { class: "fx-strip", hidden: true });
const mayAsk = (panel, run) => Boolean(panel.store.ask && run.alive);
const hiding = (panel, map, shot, cell, end) => ["hide", panel.runs[0].name, map, shot, cell, end];

/** Ask the kernel, unless it has answered before; what was asked last is what the strip shows. */
function ask(panel, question) {
  const key = JSON.stringify(question);
  panel.asked = { ...panel.asked, [question[0]]: key };
  if (mayAsk(panel, panel.runs[0]) && !(key in (panel.store.get("_answers") ?? {}))) panel.store.ask(key);
  paintWhatIf(panel);
}

/** Hide the memory cells that are selected; what the key h does. */
export function hideSelected(panel) {
  const { map, shot, cell, end } = panel.selection;
  if (map === "query") panel.whatIf.said.textContent = "Click a memory cell first, or drag over several.";
  else ask(panel, hiding(panel, map, shot, cell, end));
}

function askNeeded(panel) {
  if (panel.forward) ask(panel, neededKey(panel));
  else panel.whatIf.said.textContent = "Select query cells first (Esc): what they need is measured.";
}

const neededKey = (panel) => ["needed", panel.runs[0].name, panel.selection.cell, panel.selection.end];

export function paintProgress(panel, { done, total }) {
  Object.assign(panel.whatIf.bar, { value: done / total, hidden: done >= total });
}

/** Show the answers that belong to the present run and selection. */
export function paintWhatIf(panel) {
  const answers = panel.store.get("_answers") ?? {};
  const name = JSON.stringify(panel.runs[0].name);
  const mine = (kind) => Object.keys(answers).filter((key) => key.startsWith(`["${kind}",${name}`));
  const latest = (kind) => (mine(kind).includes(panel.asked?.[kind]) ? panel.asked[kind] : mine(kind).at(-1));
  const needed = JSON.stringify(neededKey(panel));
  const known = panel.forward && needed in answers ? needed : null;
  const keys = { hide: latest("hide"), needed: known, lens: latest("lens") };
  const { strips, painted, said } = panel.whatIf;
  const painters = { hide: hiddenFigures, needed: neededFigures, lens: lensFigures };
  for (const [kind, key] of Object.entries(keys)) {
    const state = kind === "needed" ? `${key} ${panel.selection.layer} ${panel.view.show}` : key;
    if (painted.get(kind) === state) continue;
    painted.set(kind, state);
    const answer = key && answers[key];
    strips[kind].hidden = !answer;
    const pictures = !answer || answer.error ? [] : painters[kind](panel, answer, JSON.parse(key));
    strips[kind].replaceChildren(...(answer?.error ? [answer.error] : pictures.map(({ node }) => node)));
    for (const { tile, drawing } of pictures) {
      tile.measure();
      tile.draw(drawing);
    }
  }
  const waits = Object.values(panel.asked ?? {}).some((asked) => !(asked in answers));
  const words = !mayAsk(panel, panel.runs[0]) ? NEEDS_KERNEL : waits ? "Python computes …" : EXPLAINED;
  if (said.textContent !== words) said.textContent = words; // or it would be read out at every move
}

/** A small picture with a caption. */
function answerFigure(panel, shape, caption, drawing) {
  const aspect = panel.pictures.get(panel.runs[0].query)?.aspect ?? panel.data.grid[1] / panel.data.grid[0];
  const tile = new Tile(shape, caption, aspect, () => {});
  tile.canvas.tabIndex = -1;
  tile.canvas.setAttribute("role", "img");
  const node = make("figure", { class: "fx-figure" }, make("div", { class: "fx-numbers" }, caption), tile.canvas);
  return { tile, drawing, node };
}

function maskFigure(panel, mask, caption) {
  const [run] = panel.runs;
  const bits = Uint8Array.from(atob(mask.bits), (character) => character.charCodeAt(0));
  const truth = run.truth ? [[outlineOf(run.truth), panel.data.colours.truth]] : [];
  const outlines = [...truth, [outlineOf({ ...mask, bits }), panel.data.colours.prediction]];
  return answerFigure(panel, panel.data.grid, caption, { picture: panel.pictures.get(run.query), outlines });
}

const ofTruth = (iou) => (iou === null ? "" : `, IoU ${percent(iou)}`);

function hiddenFigures(panel, { mask, iou, whole, changed }, [, , map, shot, cell, end]) {
  const where = cell && map !== "pointers" ? `cells (${cell}) to (${end}) of ${WITHOUT[map]}` : WITHOUT[map];
  const which = shot !== null && panel.runs[0].blocks > 1 && map === "support" ? `, support ${shot + 1}` : "";
  const before = whole === null ? "" : ` (${percent(whole)} with it)`;
  const pixels = `${percent(changed)} of the pixels change`;
  return [maskFigure(panel, mask, `without ${where}${which}${ofTruth(iou)}${before}; ${pixels}`)];
}

function lensFigures(panel, { masks, ious }) {
  const caption = (i) => (i ? `after layer ${i}` : "before layer 1") + ofTruth(ious ? ious[i] : null);
  return masks.map((mask, i) => maskFigure(panel, mask, caption(i)));
}

/** For each block with cells: what is looked at in the layer that is shown, and what the answer needs. */
function neededFigures(panel, { blocks, needed }) {
  const looked = panel.maps[0];
  const [run] = panel.runs;
  const { palettes, grid } = panel.data;
  const top = Math.max(...needed.map((values) => largest(values)));
  const most = Math.max(...[...looked.support, looked.memory].map(largest));
  const kind = panel.view.show === "difference" ? "difference" : "weight";
  return blocks.flatMap((block, i) => {
    const query = block === "query";
    const picture = panel.pictures.get(query ? run.query : run.supports[run.blocks > 1 ? i : 0]);
    const drawn = (name, values, limit) => {
      return { picture, map: { values, kind: name, scale: scaleOf(name, limit), palette: palettes[name] } };
    };
    const weights = query ? looked.memory : looked.support[i];
    const sign = `largest ${largest(needed[i]).toPrecision(2)} of logit`;
    return [
      answerFigure(panel, grid, `${block}: looked at in layer ${panel.selection.layer + 1}`, drawn(kind, weights, most)),
      answerFigure(panel, grid, `${block}: needed, ${sign}`, drawn("difference", needed[i], top)),
    ];
  });
}
