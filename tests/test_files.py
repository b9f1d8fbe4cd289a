"""Two processes at the same data: one works, the other waits, and nothing is made twice or half."""

import errno
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.photo_trees import coco_tree, voc_and_sbd

from fss_lab import files as locking
from fss_lab.datasets.coco import prepare as prepare_coco
from fss_lab.datasets.pascal import prepare as prepare_pascal
from fss_lab.files import alone

HOLD = """
import sys, time
from pathlib import Path
from fss_lab.files import alone
with alone(Path(sys.argv[1]), "task"):
    print("held", flush=True)
    time.sleep(600)
"""


def twice(work: Callable[[], object]) -> list[object]:
    """What two threads return that begin at once."""
    start, found = threading.Barrier(2), []
    threads = [threading.Thread(target=lambda: (start.wait(), found.append(work()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_process_that_is_killed_lets_go(tmp_path, capfd) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline().strip() == b"held"
    entered = []

    def enter() -> None:
        with alone(tmp_path, "task"):
            entered.append(True)

    waiting = threading.Thread(target=enter)
    waiting.start()
    with alone(tmp_path, "another task"):  # nobody waits for other work
        assert not entered
    waiting.join(3 * locking.PAUSE)
    assert not entered
    with pytest.raises(TimeoutError), alone(tmp_path, "task", patience=locking.PAUSE):
        pytest.fail("entered")
    holder.kill()
    holder.communicate()
    waiting.join()
    assert entered
    told = capfd.readouterr().err
    assert told.count("another process is at work") == 2 and str(tmp_path / ".locks" / "task") in told


def test_two_preparations_make_every_map_once(tmp_path) -> None:
    voc_and_sbd(tmp_path)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "train_noval.txt").rename(tmp_path / "downloads" / "train_noval.txt")
    done = twice(lambda: prepare_pascal(tmp_path, workers=1))
    assert sorted((maps.made, maps.there) for (maps,) in done) == [(0, 100), (100, 0)]


def test_two_preparations_do_not_mix_two_rules(tmp_path) -> None:
    coco_tree(tmp_path, each=1)
    rules = iter(("last", "smaller"))

    def prepare() -> str:
        try:
            return f"{prepare_coco(tmp_path, rule=next(rules), workers=1)[0].made} made"
        except ValueError as error:
            return str(error)

    refused, made = sorted(twice(prepare), key=lambda text: "made" in text.split()[1:2])
    assert made == "80 made" and "holds label maps painted with --overlap" in refused


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EROFS])
def test_where_nothing_can_be_locked_a_warning_says_so(tmp_path, monkeypatch, number) -> None:
    def refuse(lock: object, **options: object) -> None:
        raise OSError(number, "not here")

    monkeypatch.setattr(locking.FileLock, "acquire", refuse)
    entered = []
    warned = pytest.warns(UserWarning, match="task cannot be locked .*not here.* let no other process work in")
    with warned, alone(tmp_path, "task"):
        entered.append(True)
    assert entered


def test_a_root_that_is_a_file_is_no_missing_lock(tmp_path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(OSError, match="root"), alone(Path(tmp_path / "root"), "task"):
        pytest.fail("entered")
