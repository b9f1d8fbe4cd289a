"""Notebook 00: well formed, and right with other parameters than those it ships with."""

import re
import statistics
from pathlib import Path

import nbformat
import papermill
import pytest
from PIL import Image

from fss_lab.evaluation import evaluate_toy

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "00_quickstart.ipynb"
FIGURES = ["1_toy_world", "2_prediction", "3_prior", "4_attention", "5_results"]


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(folder, monkeypatch, **parameters):
    """Execute the notebook with papermill, which by itself would only warn of a parameter that does not exist."""
    known = papermill.inspect_notebook(str(NOTEBOOK))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(f"the notebook has no parameters {unknown}, only {sorted(known)}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    executed = papermill.execute_notebook(
        str(NOTEBOOK),
        str(folder / "executed.ipynb"),
        {**parameters, "output_dir": str(folder)},
        kernel_name="python3",
        cwd=str(NOTEBOOK.parent),
        progress_bar=False,
    )
    return nbformat.from_dict(executed)


def scores_in(text):
    """Every number of the table's rows, in order: mIoU, its interval, FB-IoU, its interval."""
    return {
        row.split("|")[1].strip(): [float(number) for number in re.findall(r"\d+\.\d", row)]
        for row in text.splitlines()
        if re.search(r"\d+\.\d \[", row)
    }


def test_format(notebook):
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_cells_are_few_and_short(notebook):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    assert len(lengths) < 10
    assert max(lengths) <= 15 and statistics.median(lengths) <= 8


def test_one_cell_holds_the_parameters(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert [cell.cell_type for cell in tagged] == ["code"]
    names = set(papermill.inspect_notebook(str(NOTEBOOK)))
    assert names == {"fold", "shots", "seed", "episode", "episodes", "output_dir"}


def test_nothing_of_this_machine_and_no_installing(notebook):
    source = "\n".join(cell.source for cell in notebook.cells)
    assert not re.search(r"^\s*[!%]|sys\.path|\bpip\b", source, re.MULTILINE)
    written = source + "".join(str(output) for cell in code_cells(notebook) for output in cell.outputs)
    assert not re.search(r"[\"'\s](/(home|root|tmp|work|opt|usr|Users)/|[A-Z]:\\)", written)
    assert str(ROOT) not in NOTEBOOK.read_text(encoding="utf-8")


def test_unknown_parameters_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no parameters .'folds'."):
        run(tmp_path, monkeypatch, folds=2)


def test_runs_with_other_parameters(tmp_path, monkeypatch):
    executed = run(tmp_path, monkeypatch, fold=2, shots=5, seed=3, episode=1, episodes=2)
    assert all(cell.execution_count for cell in code_cells(executed))
    results = (tmp_path / "results.txt").read_text(encoding="utf-8")
    assert results.startswith("Novel classes of fold 2, 5-shot, 2 episodes, seed 3\n")

    expected = evaluate_toy([2], shots=5, episodes=2, seed=3)
    found = scores_in(results)
    assert list(found) == list(expected)
    for name, score in expected.items():
        assert found[name][0] == pytest.approx(100 * score.miou, abs=0.3)
        assert found[name][3] == pytest.approx(100 * score.fb_iou, abs=0.3)

    assert sorted(path.stem for path in tmp_path.glob("*.png")) == FIGURES
    shown = [
        output.metadata["image/png"]["alt"]
        for cell in code_cells(executed)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(shown) == len(FIGURES) and all(shown)
    for name, alt in zip(FIGURES, shown, strict=True):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.text["Description"] == alt
