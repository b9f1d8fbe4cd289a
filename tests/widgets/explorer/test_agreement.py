"""What JavaScript computes from the payload is what the model did."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch

from fss_lab import explore
from fss_lab.method.calibration import calibration_bias
from fss_lab.widgets.explorer.widget import script

PROGRAM = """
import { readFileSync } from "node:fs";
import { columnOf, readers, rows, shares, unpack } from "./explorer.mjs";
const { description, asked } = JSON.parse(readFileSync("asked.json"));
const data = unpack(description, new Uint8Array(readFileSync("data.bin"))), [run] = data.runs;
const plain = (found) => Object.fromEntries(Object.entries(found).map(([key, values]) => [key, [...values]]));
const answers = asked.map(({ layer, cells, keys }) => {
  const found = rows(run.layers[layer], data.strength, cells);
  return { row: plain(found), column: plain(readers(run.layers[layer], data.strength, keys)),
           shares: shares(run, run.layers[layer], found.after) };
});
const columns = ["support", "memory", "pointers"].map((map) => columnOf(run.layers[0], data.grid, map, 0, 0, 3));
console.log(JSON.stringify({ answers, columns }));
"""


def ask_node(folder, explorer, asked):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js, which runs the explorer's arithmetic here, is not on the PATH")
    (folder / "explorer.mjs").write_text(script(), encoding="utf-8")
    (folder / "ask.mjs").write_text(PROGRAM, encoding="utf-8")
    (folder / "asked.json").write_text(json.dumps({"description": explorer._description, "asked": asked}))
    (folder / "data.bin").write_bytes(explorer._packed)
    ended = subprocess.run([node, "ask.mjs"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def close(found, expected):
    np.testing.assert_allclose(np.array(found), expected.numpy(), rtol=0, atol=1e-3)
    # beyond the absolute bound: nothing that matters is off by more than a few percent
    visible = expected > 1e-3
    np.testing.assert_allclose(np.array(found)[visible], expected[visible].numpy(), rtol=0.05)


@pytest.mark.parametrize("name", ["1 shots", "5 shots", "off", "as_published", "support", "3 heads"])
def test_rows_and_columns_of_every_kind_of_trace(tmp_path, traces, name):
    trace = traces[name]
    last = trace.layers[0].k.shape[2] - 1
    keys = [[0], [300], [last], [40, 41, 56]] if name != "support" else [[0], [last]]
    asked = [
        {"layer": layer, "cells": cells, "keys": key}
        for layer in range(len(trace.layers))
        for cells, key in zip([[0], [167], [255], [20, 21, 36, 37]], keys, strict=False)
    ]
    explorer = explore(trace)
    found = ask_node(tmp_path, explorer, asked)
    inside = explorer.runs[0].foreground[1].flatten().float()
    for question, answer in zip(asked, found["answers"], strict=True):
        layer = trace.layers[question["layer"]]
        for when, weights in (("before", layer.attention_before[0]), ("after", layer.attention[0])):
            weights = weights.mean(0)
            close(answer["row"][when], weights[question["cells"]].mean(0))
            close(answer["column"][when], weights[:, question["keys"]].mean(1))
        bias = layer.bias[0].mean(0)
        np.testing.assert_allclose(answer["row"]["bias"], bias[question["cells"]].mean(0).numpy(), atol=0.02)
        row, columns = weights[question["cells"]].mean(0), layer.columns
        query = row[columns.query]
        foreground = (query * inside).sum() if len(query) else torch.tensor(0.0)
        expected = [row[columns.support].sum(), foreground, query.sum() - foreground, row[columns.pointers].sum()]
        np.testing.assert_allclose(answer["shares"], torch.stack(expected).numpy(), atol=2e-3)
    columns = trace.layers[0].columns
    expected = [columns.support.start + 3, columns.query.start + 3, columns.pointers.start + 3]
    assert found["columns"] == [expected[0], expected[1] if name != "support" else None, expected[2]]


def test_attention_too_sharp_for_float16_travels_as_float32(tmp_path, traces):
    trace = traces["1 shots"]
    sharp = []
    for layer in trace.layers:
        logits = layer.logits * 40
        bias = torch.zeros_like(logits)
        bias[..., layer.columns.query] = calibration_bias(logits[..., layer.columns.query], layer.calibration)
        before, after = logits.softmax(-1), (logits + bias).softmax(-1)
        sharp.append(replace(layer, q=layer.q * 40, logits=logits, bias=bias, attention_before=before, attention=after))
    explorer = explore(replace(trace, layers=sharp))
    kinds = [layer["q"]["$"] for layer in explorer._description["runs"][0]["layers"]]
    assert "f4" in kinds and explorer.deviation < 1e-3
    asked = [{"layer": kinds.index("f4"), "cells": [100], "keys": [3]}]
    (answer,) = ask_node(tmp_path, explorer, asked)["answers"]
    close(answer["row"]["after"], sharp[kinds.index("f4")].attention[0, 0, 100])


def test_deviation_is_measured_against_the_trace(traces):
    trace = traces["1 shots"]
    assert 0 < explore(trace).deviation < 1e-3
    other = replace(trace.layers[0], attention=trace.layers[0].attention.roll(1, -1))
    with pytest.warns(UserWarning, match="differ from the model's own"):
        assert explore(replace(trace, layers=[other, *trace.layers[1:]])).deviation > 1e-2
