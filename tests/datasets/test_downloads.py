"""Downloads from a server that breaks off, stalls and lies; archives that lead elsewhere; the manifest."""

import hashlib
import http.client
import io
import json
import re
import ssl
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.local_server import LocalServer, serve

from fss_lab.cli import commands as cli
from fss_lab.datasets import archives
from fss_lab.datasets import catalogue as real
from fss_lab.datasets.archives import unpack
from fss_lab.datasets.downloads import Download, Patience, fetch, get, read_manifest
from fss_lab.errors import DataError

CONTENT = bytes(range(256)) * 400  # 100 KB
QUICK = Patience(timeout=0.3, tries=2, pause=0.01)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.bin").write_bytes(CONTENT)
    with serve(folder) as running:
        yield running


def described(server: LocalServer, name: str = "file.bin", folder: str | None = None, **changes) -> Download:
    content = (server.folder / name).read_bytes()
    sums = {"md5": hashlib.md5(content).hexdigest(), "sha256": hashlib.sha256(content).hexdigest()}
    found = Download(name, (f"{server.url}/{name}",), len(content), **sums, folder=folder, into="")
    return replace(found, **changes)


@pytest.mark.parametrize("folder", [None, "top"])
def test_two_processes_that_want_a_file_get_it_once(server, tmp_path, folder) -> None:
    archive(server.folder / "a.tar", {f"top/{n}.bin": CONTENT[n:] for n in range(5)})
    server.faults["a.tar"] = ["slow"]
    download, found = described(server, "a.tar", folder=folder), []
    threads = [
        threading.Thread(target=lambda: found.extend(get([download], tmp_path, patience=QUICK))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    target = tmp_path / (folder or "downloads/a.tar")
    assert found == [target] * 2 and target.exists() and server.requests == [("a.tar", "")]
    assert {path.name for path in tmp_path.iterdir()} == {
        "served",
        ".locks",
        "downloads",
        *([folder] if folder else []),
    }


def test_a_file_is_downloaded_checked_and_not_downloaded_again(server, tmp_path) -> None:
    (path,) = get([described(server)], tmp_path, patience=QUICK)
    assert path == tmp_path / "downloads" / "file.bin" and path.read_bytes() == CONTENT
    assert get([described(server)], tmp_path, patience=QUICK) == [path]
    assert server.requests == [("file.bin", "")]
    assert [each.name for each in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("fault", ["break", "stall"])
def test_a_broken_transfer_goes_on_where_it_was(server, tmp_path, fault, size) -> None:
    server.faults["file.bin"] = [fault]
    path = fetch(described(server, bytes=size), tmp_path, QUICK)
    assert path.read_bytes() == CONTENT
    assert server.requests == [("file.bin", ""), ("file.bin", f"bytes={len(CONTENT) // 2}-")]


@pytest.mark.parametrize("error", [ssl.SSLError(1, "record layer failure"), OSError(113, "No route to host")])
def test_a_connection_that_fails_while_it_is_read_is_made_again(server, tmp_path, monkeypatch, error) -> None:
    usual, errors = http.client.HTTPResponse.read1, [error]

    def read1(answer, size) -> bytes:
        if errors and (tmp_path / "file.bin.part").stat().st_size:
            raise errors.pop()
        return usual(answer, 1000 if errors else size)

    monkeypatch.setattr(http.client.HTTPResponse, "read1", read1)
    assert fetch(described(server), tmp_path, QUICK).read_bytes() == CONTENT
    assert server.requests == [("file.bin", ""), ("file.bin", "bytes=1000-")]


def test_a_slow_transfer_is_no_broken_one(server, tmp_path) -> None:
    server.faults["file.bin"] = ["slow"]
    assert fetch(described(server), tmp_path, replace(QUICK, timeout=0.15)).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_process_that_was_killed_is_continued_by_the_next(server, tmp_path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:70_000])
    assert fetch(described(server), tmp_path, QUICK).read_bytes() == CONTENT
    assert server.requests == [("file.bin", "bytes=70000-")]


def test_a_server_without_ranges_sends_all_again(server, tmp_path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:70_000])
    server.faults["file.bin"] = ["no range"]
    assert fetch(described(server), tmp_path, QUICK).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("there", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_already_whole_or_too_long(server, tmp_path, there, size) -> None:
    (tmp_path / "file.bin.part").write_bytes(there)
    assert fetch(described(server, bytes=size), tmp_path, QUICK).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_gone_file_is_sought_at_the_next_mirror(server, tmp_path) -> None:
    server.faults["file.bin"] = ["busy", "gone"]
    twice = (f"{server.url}/file.bin",) * 2
    assert fetch(described(server, urls=twice), tmp_path, QUICK).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_other_bytes_are_refused_and_the_next_mirror_is_asked(server, tmp_path) -> None:
    server.faults["file.bin"] = ["other"] * 2
    with pytest.raises(DataError) as refused:
        get([described(server)], tmp_path, patience=QUICK)
    text = str(refused.value)
    assert server.url in text and "its MD5 is" in text and "its SHA-256 is" in text and "put it there as" in text
    assert list((tmp_path / "downloads").iterdir()) == []
    twice = (f"{server.url}/file.bin",) * 2
    assert fetch(described(server, urls=twice), tmp_path, QUICK).read_bytes() == CONTENT


def test_a_file_that_is_there_is_checked_before_it_is_used(server, tmp_path) -> None:
    (path,) = get([described(server)], tmp_path, patience=QUICK)
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DataError, match=r"file\.bin is not the file of the manifest: its MD5 is .* Delete it"):
        get([described(server)], tmp_path, patience=QUICK)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="it has 102399 bytes, expected 102400"):
        get([described(server)], tmp_path, patience=QUICK)
    assert path.exists() and len(server.requests) == 1


def test_without_a_server_the_message_says_where_to_put_the_file(tmp_path) -> None:
    lost = Download("a.tar", ("http://127.0.0.1:9/a.tar",), 5, "", "", None, "")
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/a\.tar: .*refused.*put it there as .*a\.tar"):
        fetch(lost, tmp_path, QUICK)


def test_interrupted_for_good_what_came_is_kept(server, tmp_path) -> None:
    server.faults["file.bin"] = ["break"] + ["busy"] * 9
    with pytest.raises(DataError, match="51200 bytes of it are kept: the same command goes on from there"):
        fetch(described(server), tmp_path, QUICK)
    server.faults.clear()
    assert fetch(described(server), tmp_path, QUICK).read_bytes() == CONTENT
    assert server.requests[-1] == ("file.bin", "bytes=51200-")


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(server, tmp_path, monkeypatch) -> None:
    room = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: room)
    with pytest.raises(DataError, match="0.00 GB are needed to download file.bin.*choose a folder on another disk"):
        fetch(described(server), tmp_path, QUICK)
    assert list(tmp_path.glob("*.part")) == []
    made = archive(tmp_path / "big.tar", {"top/a.txt": b"x" * 2000})
    with pytest.raises(DataError, match=r"needed to unpack big\.tar"):
        unpack(made, "top", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_no_broken_connection(server, tmp_path, monkeypatch) -> None:
    class Full(io.FileIO):
        def write(self, block) -> int:
            raise OSError(28, "No space left on device")

    described_one, usual = described(server), Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *a, **k: Full(path, "w") if path.suffix == ".part" else usual(path, *a, **k)
    )
    with pytest.raises(DataError, match="No space left on device.*free some disk space, and run the same command"):
        fetch(described_one, tmp_path, QUICK)
    assert len(server.requests) == 1


def test_a_part_that_may_not_be_written_is_no_broken_connection(server, tmp_path) -> None:
    (tmp_path / "file.bin.part").mkdir()
    with pytest.raises(DataError, match=r"file\.bin\.part cannot be written .*look at the disk and who may write"):
        fetch(described(server, bytes=None), tmp_path, QUICK)
    assert len(server.requests) == 1


# ---- archives


def archive(path: Path, files: dict[str, bytes], extra: list[tarfile.TarInfo] = ()) -> Path:
    """A tar archive, compressed where its name says so, or a zip."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, content in files.items():
                zipped.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tarred:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))
        for info in extra:
            tarred.addfile(info)
    return path


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.zip"])
def test_the_wanted_folder_is_unpacked_and_nothing_else(tmp_path, name) -> None:
    made = archive(tmp_path / name, {"top/in/a.txt": b"1", "top/in/deep/b.txt": b"2", "top/other.txt": b"3"})
    target = unpack(made, "top/in", tmp_path / "out")
    assert target == tmp_path / "out" / "top" / "in"
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"top/in/a.txt", "top/in/deep/b.txt"}
    assert (target / "deep" / "b.txt").read_bytes() == b"2"


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def zip_link(path: Path) -> Path:
    info = zipfile.ZipInfo("top/link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("top/a.txt", "1")
        zipped.writestr(info, "../../outside")
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: archive(p / "a.tar", {"top/a": b"1", "top/../../out.txt": b"2"}), "leads out of its folder"),
        (lambda p: archive(p / "a.tar", {"top/a": b"1", "/tmp/out.txt": b"2"}), "leads out of its folder"),
        (lambda p: archive(p / "a.zip", {"top/a": b"1", "../out.txt": b"2"}), "leads out of its folder"),
        (lambda p: archive(p / "a.zip", {"top/a": b"1", "top\\..\\..\\out.txt": b"2"}), "leads out of its folder"),
        (lambda p: archive(p / "a.zip", {"top/a": b"1", "C:/out.txt": b"2"}), "leads out of its folder"),
        (lambda p: archive(p / "a.tar", {"top/a": b"1"}, [link("top/l", "../../out")]), "is a link"),
        (lambda p: archive(p / "a.tar", {"top/a": b"1"}, [link("top/l", "/etc/passwd")]), "is a link"),
        (lambda p: archive(p / "a.tar", {"top/a": b"1"}, [link("top/l", "../a", tarfile.LNKTYPE)]), "is a link"),
        (lambda p: archive(p / "a.tar", {"top/a": b"1"}, [link("top/d", "", tarfile.FIFOTYPE)]), "is a device or pipe"),
        (lambda p: zip_link(p / "a.zip"), "is a link"),
        (lambda p: archive(p / "a.tar", {"other/a": b"1"}), "holds no top; it is another archive"),
    ],
)
def test_an_archive_that_leads_elsewhere_is_refused_before_a_file_is_written(tmp_path, make, reason) -> None:
    (tmp_path / "served").mkdir()
    made = make(tmp_path / "served")
    into = tmp_path / "deep" / "out"
    with pytest.raises(DataError, match=rf"{re.escape(str(made))} .*{reason}"):
        unpack(made, "top", into)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [made]
    assert list(into.iterdir()) == []


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.zip"])
def test_a_damaged_archive_leaves_nothing(tmp_path, name) -> None:
    made = archive(tmp_path / name, {f"top/{n}.bin": CONTENT[n:] for n in range(5)})
    whole = made.read_bytes()
    made.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.(tar|tgz|zip) could not be unpacked .*download it again"):
        unpack(made, "top", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_changed_byte_in_a_zip_is_noticed(tmp_path) -> None:
    made = archive(tmp_path / "a.zip", {"top/a.bin": CONTENT})
    content = bytearray(made.read_bytes())
    content[5000] ^= 1
    made.write_bytes(content)
    with pytest.raises(DataError, match="could not be unpacked .*CRC"):
        unpack(made, "top", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_link_elsewhere_in_the_archive_does_no_harm(tmp_path) -> None:
    made = archive(tmp_path / "a.tar", {"top/in/a": b"1"}, [link("top/l", "/etc/passwd")])
    unpack(made, "top/in", tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if not path.is_dir()] == [tmp_path / "out/top/in/a"]


def test_unpacked_folders_count_and_archives_may_go(server, tmp_path) -> None:
    archive(server.folder / "a.tar", {"top/a.txt": b"1"})
    download = described(server, "a.tar", folder="top")
    aside = tmp_path / ".a.tar.unpacking"  # of a process that was killed
    aside.mkdir()
    (aside / "half").write_text("?")
    assert get([download], tmp_path, patience=QUICK, remove_archives=True) == [tmp_path / "top"]
    assert not aside.exists() and list((tmp_path / "downloads").iterdir()) == []
    assert get([download], tmp_path, patience=QUICK) == [tmp_path / "top"]
    assert len(server.requests) == 1


# ---- the manifest


def test_the_manifest_says_what_the_data_sets_need() -> None:
    sources = read_manifest(real.data_folder() / "manifest.json")
    assert {source: [each.name for each in found] for source, found in sources.items()} == {
        "voc": ["VOCtrainval_11-May-2012.tar"],
        "sbd": ["benchmark.tgz", "train_noval.txt"],
        "coco": ["annotations_trainval2014.zip", "val2014.zip", "train2014.zip"],
    }
    for download in (each for found in sources.values() for each in found):
        assert re.fullmatch("[0-9a-f]{32}", download.md5) and re.fullmatch("[0-9a-f]{64}", download.sha256)
        assert all(url.endswith("/" + download.name) for url in download.urls)
    (voc,) = sources["voc"]
    assert len(voc.urls) == 2 and voc.bytes == 1_999_639_040


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(format=2), "format 2, expected 1"),
        (lambda m: m["sources"]["voc"][0].update(name="../up.tar"), "must be a file name"),
        (lambda m: m["sources"]["voc"][0].update(urls=["file:///etc/passwd"]), "must begin with http"),
        (lambda m: m["sources"]["voc"][0].pop("md5"), "md5"),
        (lambda m: m.pop("sources"), "sources"),
        (lambda m: m["sources"]["voc"][0].update(into="../escape"), "'../escape' leads out of the data folder"),
        (lambda m: m["sources"]["voc"][0].update(into="/tmp"), "leads out of the data folder"),
        (lambda m: m["sources"]["voc"][0].update(into="a\\..\\.."), "leads out of the data folder"),
        (lambda m: m["sources"]["voc"][0].update(into="C:"), "leads out of the data folder"),
        (lambda m: m["sources"]["voc"][0].update(folder="a/../../b"), "leads out of the data folder"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(tmp_path, change, reason) -> None:
    content = json.loads((real.data_folder() / "manifest.json").read_text())
    change(content)
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"m.json is no manifest of downloads .*{reason}"):
        read_manifest(tmp_path / "m.json")


def test_a_manifest_without_the_source_and_a_root_that_is_a_file_are_one_line(tmp_path, capsys) -> None:
    content = json.loads((real.data_folder() / "manifest.json").read_text())
    listed, root = tmp_path / "m.json", tmp_path / "root"
    listed.write_text(json.dumps({**content, "sources": {"voc": content["sources"]["voc"], "sbd": []}}))
    root.write_text("")
    get_it = ["data", "get", "--manifest", str(listed), "--root", str(root)]
    assert cli.main([*get_it, "voc", "sbd", "coco"]) == 1
    assert "error: the manifest lists no downloads of sbd, coco" in capsys.readouterr().err
    assert cli.main([*get_it, "voc"]) == 1
    message = capsys.readouterr().err
    assert str(root) in message and message.count("\n") == 1


def test_a_package_without_its_clone_says_what_to_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(real, "__file__", str(tmp_path / "site-packages" / "fss_lab" / "datasets" / "catalogue.py"))
    with pytest.raises(DataError, match="does not run from a clone.*--root.*--manifest"):
        real.data_folder()


def test_data_is_ignored_by_git_except_what_says_how_to_get_it() -> None:
    rules = (real.data_folder().parent / ".gitignore").read_text().splitlines()
    assert [rule for rule in rules if "data/" in rule] == ["data/*", "!data/README.md", "!data/manifest.json"]
