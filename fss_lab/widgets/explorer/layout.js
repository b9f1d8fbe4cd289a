// The elements of the panel: controls, rows of maps, the chart of shares, the refinement.

import { whatIfOf } from "./whatif.js";
import { Tile, gradientOf, make, powerOfTen } from "./drawing.js";

/** Build everything for the panel's present view and fill its root. */
export function layOut(panel) {
  const { data, root } = panel;
  const names = data.runs.map((run) => run.name).filter(Boolean);
  panel.tiles = [];
  panel.rows = rowsOf(panel);
  panel.summary = make("div", { class: "fx-summary", "aria-live": "polite" });
  panel.read = make("div", { class: "fx-read", "aria-live": "polite" });
  panel.chart = chartOf(panel);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Attention explorer");
  const title = ["Attention explorer", data.className && `find the ${data.className}`, names.length === 1 && names[0]];
  root.replaceChildren(
    div("fx-title", title.filter(Boolean).join(" · ")),
    controlsOf(panel),
    div("fx-rows", ...panel.rows.map((row) => row.node)),
    scaleBar(panel),
    div("fx-words", panel.summary, panel.read),
    whatIfOf(panel),
    div("fx-more", make("div", {}, panel.chart, notesOf(panel)), ...refinementOf(panel)),
  );
}

const div = (name, ...children) => make("div", { class: name }, ...children);

// -- controls --

function controlsOf(panel) {
  const { data, view, selection } = panel;
  const [run] = panel.runs;
  const layers = run.layers.map((_, i) => i);
  const calibrated = panel.runs.some((other) => other.layers.some((layer) => layer.biased));
  const names = data.runs.map((other) => other.name);
  const outlined = (name, text) => {
    const others = view.outlines.filter((other) => other !== name);
    const visible = view.outlines.includes(name);
    const box = option(panel, "checkbox", "outlines", name, text, visible, () =>
      panel.change("outlines", visible ? others : [...others, name]),
    );
    box.style.setProperty("--fx-mark", data.colours[name]);
    return box;
  };
  const has = (name) => panel.runs.some((other) => other[name]);
  const select = (name, label, choices) => {
    const onchange = (event) => panel.change(name, choices[event.target.selectedIndex][0]);
    const options = choices.map(([value, text]) => make("option", { selected: view[name] === value }, text));
    const list = make("select", { "data-focus": name, onchange }, ...options);
    return make("label", { class: "fx-select" }, label, list);
  };
  const layerOption = (i) =>
    option(panel, "radio", "layer", i, `${i + 1}`, selection.layer === i, () => panel.select({ layer: i }));
  const showOption = (show) => {
    const disabled = !calibrated && show !== "after";
    return option(panel, "radio", "show", show, show, view.show === show, () => panel.change("show", show), disabled);
  };
  const outlines = ["truth", "prediction"].filter(has).map((name) => outlined(name, name));
  const groups = [
    group("Layer", ...layers.map(layerOption)),
    group("Calibration", ...["before", "after", "difference"].map(showOption)),
    group("Show", ...outlines, outlined("support", "support mask")),
  ];
  if (names.length > 1) {
    const choices = names.map((name) => [name, name]);
    const others = [[null, "nothing"], ...choices.filter(([name]) => name !== view.run)];
    groups.push(group("Compare", select("run", "", choices), select("against", "with", others)));
  }
  return div("fx-controls", ...groups);
}

const group = (name, ...items) => make("fieldset", { class: "fx-group" }, make("legend", {}, name), ...items);

function option(panel, type, name, value, text, checked, onchange, disabled = false) {
  const key = `${name}:${value}`;
  return make(
    "label",
    { class: `fx-option fx-${type}` },
    make("input", { type, name: `${panel.name}-${name}`, value, checked, disabled, onchange, "data-focus": key }),
    make("span", {}, text),
  );
}

// -- maps --

function rowsOf(panel) {
  const { layer } = panel.selection;
  return panel.runs.map((run) =>
    rowOf(panel, run, run.layers[layer], [run.name, `layer ${layer + 1}`].filter(Boolean).join(" · ")),
  );
}

function rowOf(panel, run, layer, title) {
  const row = { run, layer, title };
  const { grid } = panel.data;
  const averaged = run.blocks === 1 && run.shots > 1;
  const aspectOf = (image) => panel.pictures.get(image)?.aspect ?? grid[1] / grid[0];
  const figure = (map, name, aspect, shape = grid, shot = 0, more = []) =>
    figureOf(panel, { map, shot, row }, shape, name, `${title}, ${name}`, aspect, more);
  const count = layer.columns.pointers[1] - layer.columns.pointers[0];
  row.query = figure("query", "query", aspectOf(run.query));
  row.support = [...Array(run.blocks).keys()].map((block) => {
    const name =
      run.blocks > 1 ? `support ${block + 1}` : averaged ? `mean of ${run.shots} supports` : "support memory";
    const aspect = aspectOf(run.supports[run.blocks > 1 ? block : Math.min(panel.view.shot, run.shots - 1)]);
    return figure("support", name, aspect, grid, block, averaged ? [shotsOf(panel, run)] : []);
  });
  row.memory = run.queryMemory ? figure("memory", "query memory", aspectOf(run.query)) : null;
  row.pointers = figure("pointers", "object pointers", "auto", [1, count], 0, [pointerNames(run)]);
  row.pointers.tile.canvas.classList.add("fx-bars");
  const supports = div(run.blocks > 1 ? "fx-many" : "fx-single", ...row.support.map(({ node }) => node));
  const wide = panel.runs.some((other) => other.blocks > 1) ? " fx-wide" : "";
  const maps = [row.query.node, supports, ...(row.memory ? [row.memory.node] : []), row.pointers.node];
  const heading = panel.runs.length > 1 ? [div("fx-row-title", title)] : [];
  row.node = make("section", { class: "fx-row" }, ...heading, div(`fx-maps${wide}`, ...maps));
  return row;
}

function figureOf(panel, info, shape, name, label, aspect, more) {
  const listener = (type, event, tile) => panel.listen(info, type, event, tile);
  const rows = shape[0] > 1 ? `${shape[0]} by ${shape[1]} cells` : `${shape[1]} tokens`;
  const tile = new Tile(shape, `${label}, ${rows}; arrow keys move, Enter asks`, aspect, listener);
  const numbers = make("span", { class: "fx-numbers" });
  tile.canvas.dataset.focus = `${info.map}:${info.shot}:${info.row?.run.name}`; // the layer may change under the focus
  panel.tiles.push(tile);
  const parts = [div("fx-name", name), tile.canvas, ...more, numbers];
  return { tile, numbers, node: make("figure", { class: `fx-figure fx-${info.map}` }, ...parts) };
}

/** Buttons that choose which support image lies under the map of the averaged support memory. */
function shotsOf(panel, run) {
  const button = (shot) => {
    const vanished = " (its object vanishes on the memory grid and takes no part in the calibration)";
    const attributes = {
      type: "button",
      class: "fx-shot",
      "data-focus": `shot:${shot}`,
      "aria-pressed": `${panel.view.shot === shot}`,
      title: `draw the map over support ${shot + 1}${run.visible[shot] ? "" : vanished}`,
      onclick: () => panel.change("shot", shot),
    };
    return make("button", attributes, `${shot + 1}${run.visible[shot] ? "" : "∅"}`);
  };
  return div("fx-shots", "over", ...[...Array(run.shots).keys()].map(button));
}

function pointerNames(run) {
  const names = [...Array(run.shots).keys()].map((shot) => (run.shots > 1 ? `${shot + 1}` : "support"));
  if (run.queryMemory) names.push(run.shots > 2 ? "q" : "query");
  const title = run.shots > 1 ? "of each support and of the query (q)" : "of the support and of the query";
  return make("div", { class: "fx-tokens", title }, ...names.map((name) => make("span", {}, name)));
}

function scaleBar(panel) {
  const [bar, low, high, what] = ["fx-gradient", "", "", "fx-what"].map((name) => make("span", { class: name }));
  panel.scale = { bar, low, high, what };
  return div("fx-scale", low, bar, high, what);
}

// -- shares and refinement --

function chartOf(panel) {
  const kinds = ["support", "object", "background", "pointers"];
  const [{ foreground }] = panel.runs;
  const several = panel.runs.length > 1;
  panel.chartTitle = div("fx-name");
  panel.chartWords = kinds.map(() => make("span"));
  const barOf = (run, layer, i) => {
    const bars = {};
    const lines = (layer.biased ? ["before", "after"] : ["after"]).map((when) => {
      bars[when] = kinds.map((kind) => make("span", { class: `fx-share fx-${kind}-share` }));
      const label = make("span", { class: "fx-when" }, layer.biased ? when : "");
      return div("fx-stack", label, div("fx-bar", ...bars[when]));
    });
    const name = div("fx-layer-name", several ? `${run.name} · layer ${i + 1}` : `layer ${i + 1}`);
    return { run, layer, bars, item: div("fx-layer", name, div("fx-stacks", ...lines)) };
  };
  panel.shareBars = panel.runs.flatMap((run) => run.layers.map((layer, i) => barOf(run, layer, i)));
  const swatch = (kind, i) =>
    make("span", {}, make("i", { class: `fx-share fx-${kind}-share` }), panel.chartWords[i]);
  const note = foreground.cells
    ? `object: the ${foreground.cells} cells of the query that the ${foreground.of} covers`
    : `no cell belongs to the object: the ${foreground.of} is empty`;
  return make(
    "section",
    { class: "fx-chart", style: `--fx-label: ${several ? 13 : 4.4}em` },
    panel.chartTitle,
    ...panel.shareBars.map(({ item }) => item),
    div("fx-legend", ...kinds.map(swatch)),
    div("fx-small", note),
  );
}

function refinementOf(panel) {
  const [run] = panel.runs;
  const last = run.priors.length - 1;
  panel.prior = null; // the run that was shown before may have had one
  if (last < 0) return [];
  const step = Math.min(panel.view.round, last);
  const slider = make("input", {
    type: "range",
    min: 0,
    max: last,
    step: 1,
    value: step,
    disabled: last === 0,
    "aria-label": "round of refinement",
    "data-focus": "round",
    oninput: (event) => panel.change("round", Number(event.target.value)),
  });
  const bar = make("span", { class: "fx-gradient" });
  bar.style.background = gradientOf(panel.data.palettes.prior);
  const aspect = panel.pictures.get(run.query)?.aspect ?? 1;
  const more = [slider, div("fx-range", "0", bar, "1")];
  const [name, label] = ["The memory's prior", "prior of the query memory"];
  panel.prior = figureOf(panel, { map: "prior" }, panel.data.grid, name, label, aspect, more);
  panel.prior.slider = slider;
  return [make("section", { class: "fx-refinement" }, panel.prior.node)];
}

function notesOf(panel) {
  const deviation = Math.max(...panel.runs.map((run) => run.deviation));
  const bare = panel.runs.every((run) => run.layers.every((layer) => !layer.biased));
  const exact = deviation < 0.1 ? powerOfTen(Math.max(deviation, 1e-7), 0) : deviation.toFixed(1);
  const notes = [
    "Point to preview, click to keep, drag for the mean of a region, click a memory cell or a pointer for those who read it, Esc to come back.",
    "Keys: arrows move (Shift: a region), Enter asks the cell that is read, h hides the selected memory cells, 1 to 9 choose the layer.",
    bare
      ? "This attention is not calibrated: before and after are the same."
      : "Before calibration: the same layer's logits without the bias. The queries of later layers already come from calibrated ones.",
    `Computed here from queries and keys; farthest from the model's own attention weights: ${exact}.`,
  ];
  return make(
    "details",
    { class: "fx-notes", open: panel.notesOpen, ontoggle: (event) => (panel.notesOpen = event.target.open) },
    make("summary", { "data-focus": "notes" }, "How to use and read this"),
    ...notes.map((note) => make("p", {}, note)),
  );
}
