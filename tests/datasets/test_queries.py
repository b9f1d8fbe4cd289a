"""Which photos files, folders and patterns name; fss-lab segment's own tests say what becomes of them."""

import os

import pytest

from fss_lab.datasets.queries import list_queries
from fss_lab.errors import InputError


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder of empty files: only their names count."""
    monkeypatch.chdir(tmp_path)
    names = ["a.jpg", "a.png", "b.png", "b_mask.png", "c.JPEG", "c.json", "d.CR2", "D.jpg", "e.heic", "notes.txt"]
    for name in [*names, ".hidden.jpg", "sub/a.jpg", "sub/deep/f.g.tif", ".cache/x.jpg"]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def names(*sources, output="out"):
    from pathlib import Path

    return [query.name for query in list_queries(sources, Path(output))[0]]


def test_a_folder_gives_its_photos_without_masks_annotations_and_raw_twins(root):
    expected = ["D.jpg", "a.jpg", "b.png", "c.JPEG", "e.heic", "sub/a.jpg", "sub/deep/f.g.tif"]
    assert names(root) == names("photos") == names(root, "photos/a.jpg") == expected


def test_files_are_taken_as_they_are_and_once(root):
    assert names("photos/b_mask.png", "photos/sub/a.jpg", root / "sub/a.jpg") == ["b_mask.png", "a.jpg"]


def test_patterns(root):
    assert names("photos/*.jpg") == ["D.jpg", "a.jpg"]
    assert names("photos/s*") == ["a.jpg", "deep/f.g.tif"]  # folders that match
    (root / "[x].jpg").touch()
    assert names("photos/[x].jpg") == ["[x].jpg"]  # a file of this name is no pattern


def test_the_stem_keeps_folders_and_dots(root):
    (query,) = list_queries([root / "sub/deep"], root / "out")[0]
    assert query.stem == "f.g"


@pytest.mark.parametrize("sources", [("photos/a.jpg", "photos/sub"), ("photos/sub/a.jpg", "photos/A.png")])
def test_results_of_one_name_are_refused(root, sources):
    (root / "a.png").rename(root / "A.png")
    with pytest.raises(InputError, match=r"would both become [aA].png"):
        names(*sources)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links(root):
    (root / "link.jpg").symlink_to("a.jpg")
    (root / "circle.jpg").symlink_to("circle.jpg")
    (root / "again").symlink_to(root)
    assert [name for name in names(root) if "link" in name or "again" in name] == []  # a.jpg is there already
    assert "circle.jpg" in names(root)  # reading it says what is wrong


def test_a_folder_that_cannot_be_read_is_named(root, monkeypatch):
    scan = os.scandir

    def closed(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    queries, problems = list_queries([root], root / "out")
    assert len(queries) == 5 and len(problems) == 1 and "Permission denied" in problems[0] and "sub" in problems[0]
