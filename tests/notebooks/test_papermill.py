"""Each notebook with other parameters than it ships with: it runs, every control works, and the values it records
are those of expected.json (`python lab.py notebooks` writes them).
"""

from pathlib import Path

import pytest
from PIL import Image

from fss_lab.course.execution import TOLERANCE, differences, execute, expectations
from fss_lab.course.notebooks import outputs, parameters, read, records
from fss_lab.toyworld.sample_photos import write_sample_photos

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
ENTRIES = expectations(FOLDER)


@pytest.mark.parametrize("name", ENTRIES)
def test_it_runs_with_other_parameters(name, tmp_path):
    entry, path = ENTRIES[name], FOLDER / f"{name}.ipynb"
    given, shipped = entry["parameters"], parameters(read(path))
    assert given["fold"] != shipped["fold"] and given["seed"] != shipped["seed"]
    assert 5 in (given.get("shots", 5), shipped.get("shots"))  # 02 and 03 have no shots
    folder = {"output_dir": str(tmp_path)} if "output_dir" in shipped else {}
    done = execute(path, {**given, **folder}, press=True)
    assert entry["values"]
    assert differences(records(done), entry["values"], entry.get("tolerance", TOLERANCE)) == []

    shown = [
        output.metadata["image/png"]["alt"] for _, output in outputs(done) if "image/png" in output.get("data", {})
    ]
    assert shown and all(shown)
    for file in tmp_path.glob("*.png"):  # the figures it keeps carry the same words
        with Image.open(file) as image:
            assert image.text["Description"] in shown
    if name == "00_quickstart":
        check_quickstart(tmp_path, given)


def test_photographs_run_with_networks_of_full_size(tmp_path):
    """As a reader runs notebook 11 on photos of their own, but with random numbers for weights."""
    photos = write_sample_photos(tmp_path / "photos", count=2)
    for path in photos.rglob("*.*"):
        with Image.open(path) as image:
            image.resize((120, 90), Image.Resampling.NEAREST).save(path)
    own = {"model_name": "sam2-tiny+dinov2-small", "weights": "random", "image_size": 128, "photos": str(photos)}
    done = records(execute(FOLDER / "11_real_data.ipynb", own))
    assert done["photos"] == done["done"] == 4 and 0 <= done["miou"] <= 1


def check_quickstart(folder, given):
    """What `python lab.py run` shows at its end lies in output_dir."""
    figures = ["1_toy_world", "2_prediction", "3_prior", "4_attention", "5_results"]
    assert sorted(path.stem for path in folder.glob("*.png")) == figures
    results = (folder / "results.txt").read_text(encoding="utf-8")
    title = "Novel classes of fold {fold}, {shots}-shot, {episodes} episodes, seed {seed}\n".format(**given)
    assert results.startswith(title) and "FSSAM" in results
