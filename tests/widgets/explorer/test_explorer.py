"""The explorer in Python: what it takes, what it refuses, what it gives."""

import base64
import copy
import html
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from helpers.traces import with_inputs
from nbconvert import HTMLExporter
from PIL import Image
from traitlets import TraitError

from fss_lab import Pictograms, explore
from fss_lab.errors import FileError, InputError
from fss_lab.interventions import Sweep, Where, knock_out, lens
from fss_lab.method.trace import map_tensors
from fss_lab.metrics import iou
from fss_lab.widgets.explorer import whatif
from fss_lab.widgets.explorer.widget import SCRIPTS, script, style

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


@pytest.fixture
def explorer(traces):
    return explore(traces["1 shots"])


def size(explorer):
    return len(explorer._packed) + len(json.dumps(explorer._description))


# -- what it takes --


def test_a_trace_stands_alone(model, episodes):
    prediction = model.segment(episodes[1], trace=True)
    expected = explore(prediction)
    assert expected.run.query is episodes[1].query_image and expected.run.class_name == episodes[1].class_name
    assert torch.equal(expected.run.truth, episodes[1].query_mask) and expected.run.foreground[0] == "truth"
    assert explore(prediction.trace)._packed == expected._packed
    assert explore(prediction.trace, episode=episodes[1])._packed == expected._packed  # as it was called before


def test_photographs_of_any_size_and_passes_over_tensors(model, traces, episodes, tmp_path):
    query = episodes[1].query_image.permute(1, 2, 0).numpy()
    Image.fromarray(query[:200]).save(tmp_path / "query.png")
    pair = (episodes[1].support_images[0], episodes[1].support_masks[0])
    run = explore(model.segment(tmp_path / "query.png", pair, trace=True)).run
    assert run.query.shape == (3, 200, 256) and run.supports[0].shape == (3, 256, 256)
    assert run.truth is None and run.foreground[0] == "prediction" and run.class_name == ""
    bare = explore(replace(traces["1 shots"], inputs=None))
    assert bare.run.query is None and bare.run.foreground[0] == "prediction" and bare.figure().alt


def test_sizes_stay_small(model, traces):
    assert size(explore(traces["1 shots"])) < 1e6
    ten = Pictograms(fold=0, split="novel", shots=10)[3]
    explorer = explore(model.segment(ten, trace=True))
    assert size(explorer) < 2e6
    assert explorer.attention()["support"].shape == (1, 16, 16) and len(explorer.attention()["pointers"]) == 44
    apart = explore(model.variant(calibration="off").segment(ten, trace=True))
    assert size(apart) < 2e6 and apart.attention()["support"].shape == (10, 16, 16)


def test_size_of_real_sam2(large):
    explorer = explore(large)
    assert size(explorer) < 8e6
    assert explorer.deviation < 1e-3 and len(explorer.run.trace.layers) == 4
    assert explorer.attention()["query"].shape == (32, 32)


def test_images_that_are_not_square(model, wide):
    explorer = explore(model.segment(wide, trace=True))
    run = explorer._description["runs"][0]
    assert (run["query"]["height"], run["query"]["width"]) == (120, 200)
    assert (run["truth"]["height"], run["truth"]["width"]) == (120, 200)
    assert explorer.figure().alt


def test_masks_without_foreground(model, episodes, traces):
    explorer = explore(with_inputs(traces["1 shots"], truth=torch.zeros_like(episodes[1].query_mask)))
    run = explorer._description["runs"][0]
    assert run["truth"] is None and run["foreground"]["cells"] == 0
    assert explorer.selection["cell"] == (8, 8) and explorer.figure().alt

    small = torch.zeros_like(episodes[1].support_masks)
    small[:, 100:104, 97:100] = 1  # nearest neighbour misses it on the memory grid
    trace = model.segment(replace(episodes[1], support_masks=small), trace=True).trace
    assert not trace.support_masks_attention.any()
    vanished = explore(trace)._description["runs"][0]
    assert vanished["visible"] == [False] and vanished["supportMasks"][0] is not None


def test_nan_in_a_prior_is_passed_on_and_nan_in_attention_refused(traces):
    trace = traces["1 shots"]
    rounds = [replace(done, prior=done.prior.clone()) for done in trace.rounds]
    rounds[0].prior[0, 0, 2, 3] = float("nan")
    broken = replace(trace, rounds=rounds)
    assert torch.isnan(explore(broken).run.priors[1][1][2, 3])
    for name in ("q", "k", "calibration"):
        values = getattr(trace.layers[1], name).clone()
        values[0, 0, 2] = float("nan")
        layers = [trace.layers[0], replace(trace.layers[1], **{name: values})]
        with pytest.raises(ValueError, match=f"layer 2 of the trace holds NaN or infinite numbers in `{name}`"):
            explore(replace(trace, layers=layers))


def test_what_does_not_fit_is_refused(model, episodes, traces):
    one = traces["1 shots"]
    with pytest.raises(ValueError, match="has no trace; make it with"):
        explore(model.segment(episodes[1]))
    with pytest.raises(TypeError, match="expected a Trace or a Prediction for 'a', got int"):
        explore({"a": 3})
    with pytest.raises(ValueError, match="dictionary of traces is empty"):
        explore({})
    with pytest.raises(ValueError, match="two traces are named '1'"):
        explore({1: one, "1": one})
    with pytest.raises(ValueError, match="trace 'b' has 1 layers"):
        explore({"a": one, "b": replace(one, layers=one.layers[:1])})
    with pytest.raises(ValueError, match="a batch of 2 queries"):
        explore(replace(one, attended=one.attended.repeat(2, 1, 1, 1)))


def test_a_trace_with_gradients_or_in_bfloat16_is_read(traces):
    def changed(change):
        return map_tensors(lambda x: change(x) if x.is_floating_point() else x, traces["1 shots"])

    explorer = explore(changed(lambda x: x.clone().requires_grad_()))
    assert explorer.attention()["query"].dtype == np.float32 and explorer.deviation < 1e-3
    with pytest.warns(UserWarning, match="computed in low precision"):  # bfloat16 has 8 bits
        rough = explore(changed(lambda x: x.bfloat16()))
    assert rough.deviation < 0.1 and rough.figure().alt
    np.testing.assert_allclose(rough.attention()["query"], explorer.attention()["query"], atol=0.02)


# -- what it gives --


def test_importing_it_loads_no_library_that_only_drawing_needs():
    names = {"matplotlib", "transformers", "lightning_fabric", "fss_lab.toyworld", "fss_lab.datasets"}
    code = f"import sys; from fss_lab import explore; print({names} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_attention_is_the_model_s_own(explorer):
    layer = explorer.run.trace.layers[0]
    explorer.selection = {"cell": (3, 4), "layer": 0}
    maps = explorer.attention()
    row = layer.attention[0, 0, 3 * 16 + 4]
    assert torch.equal(torch.from_numpy(maps["support"]).flatten(), row[:256])
    assert torch.equal(torch.from_numpy(maps["query"]).flatten(), row[256:512])
    assert torch.equal(torch.from_numpy(maps["pointers"]), row[512:])
    explorer.view = {"show": "difference"}
    assert sum(values.sum() for values in explorer.attention().values()) == pytest.approx(0, abs=1e-5)
    explorer.view = {"show": "before"}
    explorer.selection = {"cell": (4, 5), "end": (3, 4)}  # a region, drawn upwards
    expected = layer.attention_before[0, 0, [52, 53, 68, 69], 256:512].mean(0)
    np.testing.assert_allclose(explorer.attention()["query"].ravel(), expected)
    for name, cell, column in (("support", (1, 2), 18), ("memory", (1, 2), 274), ("pointers", (0, 5), 517)):
        explorer.selection = {"map": name, "cell": cell}
        readers = explorer.attention()["readers"]
        np.testing.assert_array_equal(readers.ravel(), layer.attention_before[0, 0, :, column])
        assert "read most by query cell" in explorer.figure().alt


def test_heads_are_averaged_and_runs_compared(traces):
    many = explore(traces["3 heads"])
    many.selection = {"cell": (10, 7), "layer": 1}
    expected = traces["3 heads"].layers[1].attention[0].mean(0)[10 * 16 + 7, 256:512]
    np.testing.assert_array_equal(many.attention()["query"].ravel(), expected)
    both = explore({"1 shot": traces["1 shots"], "5 apart": traces["off"]})
    assert both.view["against"] == "5 apart" and both.attention()["support"].shape == (1, 16, 16)
    both.view = {"run": "5 apart"}
    assert both.view["against"] is None and both.attention()["support"].shape == (5, 16, 16)
    both.selection = {"map": "support", "cell": (0, 0), "shot": 4}
    assert both.attention()["readers"].shape == (16, 16)
    both.view = {"run": "1 shot"}
    with pytest.raises(ValueError, match="has no such memory cell; its support memories: 1"):
        both.attention()
    bundle, _ = both._repr_mimebundle_()  # is shown all the same, with a picture of the run's first cell
    assert "Query cell" in bundle["text/plain"] and both.selection["map"] == "support"


def test_selection_is_observable_and_checked(explorer):
    seen = []
    explorer.observe(lambda change: seen.append(change["new"]["cell"]), "selection")
    explorer.selection = {"cell": [2, 3]}
    assert seen == [(2, 3)] and explorer.selection == {
        "map": "query",
        "cell": (2, 3),
        "end": (2, 3),
        "shot": 0,
        "layer": 1,
    }
    explorer.selection = {"layer": -2}
    assert explorer.selection["layer"] == 0 and explorer.selection["cell"] == (2, 3)
    known = explorer.selection
    for wrong, message in [
        ({"cell": (16, 0)}, "grid of 16 x 16"), ({"cell": 3}, r"must be \(row, column\)"),
        ({"layer": 2}, "from 0 to 1"),
        ({"map": "keys"}, "must be one of"), ({"row": 1}, "has no 'row'"),
        ({"map": "pointers", "cell": (1, 0)}, "grid of 1 x 8"),
    ]:  # fmt: skip
        with pytest.raises(TraitError, match=message):
            explorer.selection = wrong
        assert explorer.selection == known


def test_numbers_of_numpy_and_torch_travel_as_plain_ones(traces, tmp_path):
    explorer = explore(traces["3 heads"])
    explorer.selection = {"cell": torch.tensor([2, 3]), "layer": np.int64(0)}
    explorer.view = {"round": np.uint8(2)}
    json.dumps([explorer.selection, explorer.view])
    assert explorer.view["round"] == 2 and explorer.selection["cell"] == (2, 3)
    explorer.save_html(tmp_path / "page.html")
    for wrong in ({"layer": 0.5}, {"layer": True}, {"cell": (1.5, 2)}):
        with pytest.raises(TraitError, match="whole number"):
            explorer.selection = wrong


def test_a_change_in_place_that_nobody_would_notice_is_refused(explorer):
    seen = []
    explorer.observe(lambda change: seen.append(change["new"]["layer"]), "selection")
    with pytest.raises(TypeError, match="changing 'layer' in place would go unnoticed"):
        explorer.selection["layer"] = 0
    with pytest.raises(TypeError, match="changing 'show' in place"):
        explorer.view.update(show="before")
    assert explorer.selection["layer"] == 1 and explorer.view["show"] == "after" and seen == []
    explorer.selection |= {"layer": 0}
    assert seen == [0]
    copied = copy.deepcopy(explorer.selection)
    copied["layer"] = 1
    assert explorer.selection["layer"] == 0


def test_view_is_checked(explorer):
    explorer.view = {"outlines": ["truth"]}
    assert explorer.view["outlines"] == ("truth",) and explorer.view["show"] == "after"
    for wrong, message in [
        ({"show": "both"}, "must be one of"), ({"run": "x"}, "must be one of"),
        ({"outlines": ["mask"]}, "some of"), ({"outlines": "truth"}, "some of"), ({"outlines": None}, "some of"),
        ({"round": 4}, "from 0 to 3"), ({"colour": 1}, "has no"),
    ]:  # fmt: skip
        with pytest.raises(TraitError, match=message):
            explorer.view = wrong


def test_support_memory_has_no_query_memory(traces):
    explorer = explore(traces["support"])
    assert set(explorer.attention()) == {"support", "pointers"} and explorer.figure().alt
    with pytest.raises(TraitError, match="no query memory in this trace"):
        explorer.selection = {"map": "memory", "cell": (0, 0)}


def test_display_carries_a_picture_with_words(explorer):
    bundle, metadata = explorer._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    picture = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert picture.width > 800 and len(bundle["image/png"]) < 150_000
    assert metadata["image/png"]["alt"] == bundle["text/plain"] == explorer._alt
    assert "Query cell" in explorer._alt and episodes_class(explorer) in explorer._alt


def episodes_class(explorer):
    return explorer.run.class_name


def test_exported_notebook_shows_the_picture(explorer):
    bundle, metadata = explorer._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data=bundle, metadata=metadata)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("explorer", outputs=[output])])
    for template in ("lab", "classic"):
        page, _ = HTMLExporter(template_name=template).from_notebook_node(notebook)
        assert f'src="data:image/png;base64,{bundle["image/png"]}"' in page.replace("\n", "")
    assert explorer._alt in html.unescape(page)  # nbconvert's "lab" has no place for it


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_of_the_course_carry_little_widget_state(path):
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    assert len(json.dumps(metadata.get("widgets", {}))) < 100_000


def test_bytes_leave_the_state_when_they_have_arrived(explorer):
    assert explorer.get_state("_data")["_data"] == explorer._packed
    explorer._handle_custom_msg({"type": "arrived"}, [])
    assert len(explorer.get_state("_data")["_data"]) == 0
    assert len(json.dumps(explorer.get_state(), default=repr)) < 150_000  # what a notebook would carry
    explorer._handle_custom_msg({"type": "send"}, [])
    assert explorer._data == explorer._packed


def test_page_cannot_be_broken_out_of(traces, tmp_path):
    evil = "</script><script>alert(1)</script><!--"
    explorer = explore({evil: with_inputs(traces["1 shots"], class_name=evil)})
    path = explorer.save_html(tmp_path / "new" / "page.html")
    page = path.read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<!--" not in page
    assert page.count("<script") == page.count("</script") == 3
    assert "connect-src" not in page and "default-src 'none'" in page
    explorer.save_html(str(path))  # again, over the old one


@pytest.mark.parametrize(
    "name", ["costs $5 or $\\frac$", "file\udcff.jpg", "\ud800", "line\u2028end", "${1 + 1}`'\"", "$script"]
)
def test_names_may_hold_anything(traces, tmp_path, name):
    explorer = explore({name: with_inputs(traces["1 shots"], class_name=name)})
    explorer._repr_mimebundle_()
    explorer.save_html(tmp_path / "page.html")
    json.dumps([explorer.view, explorer._description, explorer._alt], ensure_ascii=False).encode()


def test_page_that_cannot_be_written_leaves_nothing(explorer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file"):
        explorer.save_html(tmp_path / "file" / "page.html")


def test_script_is_one_module_without_imports_or_addresses():
    for forbidden in ("import ", "require(", "http", "innerHTML", "eval(", "</script"):
        assert forbidden not in script(), forbidden
    assert len(script()) + len(style()) < 80_000 and "@import" not in style() and "url(" not in style()
    assert len(SCRIPTS) == len(set(SCRIPTS))


def test_everything_shown_as_arrays(traces, episodes, tmp_path):
    explorer = explore({"5 shots": traces["5 shots"], "support": traces["support"]})
    arrays = explorer.data()
    weights = {name.removeprefix("weights ") for name in arrays if name.startswith("weights ")}
    assert weights == set(explorer.attention())
    np.testing.assert_array_equal(arrays["weights query"], explorer.attention()["query"])
    np.testing.assert_array_equal(arrays["query"], episodes[5].query_image.numpy())
    np.testing.assert_array_equal(arrays["truth"], episodes[5].query_mask.numpy())
    assert arrays["support 5"].shape == (3, 256, 256) and arrays["support mask 5"].shape[-2:] == (256, 256)
    assert {"prior 0", "prior 3"} <= arrays.keys()
    assert arrays["selected"].tolist() == [[*explorer.selection["cell"]]] * 2
    with np.load(explorer.save_data(tmp_path / "new" / "shown.npz")) as saved:
        assert set(saved) == set(arrays)
        np.testing.assert_array_equal(saved["weights support"], arrays["weights support"])
    explorer.selection = {"map": "pointers", "cell": (0, 2)}
    assert "weights readers" in explorer.data()
    explorer.view = {"run": "support"}
    assert not any(name.startswith("prior") for name in explorer.data())


def test_what_if_is_what_the_interventions_say(model, episodes, monkeypatch):
    prediction = model.segment(episodes[5], trace=True)
    off = model.variant(calibration="off").segment(episodes[5], trace=True)
    explorer = explore({"a": prediction, "off": off, "bare": prediction.trace})
    progress = []
    monkeypatch.setattr(explorer, "send", progress.append)

    def ask(*question):
        key = json.dumps(question)
        explorer._handle_custom_msg({"type": "ask", "key": key}, [])
        return explorer._answers[key]

    truth = episodes[5].query_mask
    for run, question, where in [
        ("a", ("memory", 0, [6, 5], [5, 6]), Where(block="query", cells=((5, 5), (5, 6), (6, 5), (6, 6)))),
        ("off", ("support", 2, [3, 4], [3, 4]), Where(block="support 3", cells=((3, 4),))),
        ("off", ("support", None, None, None), Where(block="support")),
        ("a", ("pointers", 0, [0, 2], [0, 2]), Where(block="pointers")),
    ]:
        given = {"a": prediction, "off": off}[run]
        without = knock_out(model.variant(calibration="off") if run == "off" else model, given, where)
        answer = ask("hide", run, *question)
        assert answer["iou"] == float(iou(without.mask, truth)) and answer["whole"] == float(iou(given.mask, truth))
        assert answer["changed"] == pytest.approx(float((without.mask != given.mask).float().mean()))
    assert ask("lens", "a")["ious"] == lens(prediction).ious.tolist() and len(ask("lens", "a")["masks"]) == 3
    assert "give explore() the prediction" in ask("lens", "bare")["error"]
    asked = {}
    monkeypatch.setattr(whatif, "sweep", lambda *given, **more: asked.update(given=given, **more) or few)
    few = Sweep(torch.zeros(2, 16, 16), ("block", "row", "column"), {"block": ("support", "query")}, 0.0)
    assert ask("needed", "a", [4, 5], [4, 5])["blocks"] == ["support", "query"]
    logits = torch.rand(1, 256, 256)
    assert float(asked["effect"](logits)[0]) == pytest.approx(float(logits[0, 64:80, 80:96].mean()))
    asked["progress"](1, 2)
    assert progress[-1]["type"] == "progress" and (progress[-1]["done"], progress[-1]["total"]) == (1, 2)


def test_models_of_another_grid_are_refused(model, episodes, large):
    with pytest.raises(InputError, match="'large' has 4 layers on a grid of 32 x 32, the trace 'toy' 2 on 16 x 16"):
        explore({"toy": model.segment(episodes[1], trace=True), "large": large})
