"""Settings of the whole suite, and which files the quick part leaves out."""

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples everywhere, and no alarm when a busy machine is slow.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

ROOT = Path(__file__).parents[1]
MARKS = {
    "notebooks": "notebook",
    "tests/notebooks/test_papermill.py": "notebook",
    "tests/course/test_execution.py": "notebook",
    "tests/course/test_site.py": "browser",
    "tests/evaluation/test_photographs.py": "slow",
    "tests/widgets/explorer/test_jupyterlab.py": "browser",
    "tests/widgets/explorer/test_page.py": "browser",
    "tests/training/test_training_faults.py": "processes",
    "tests/training/test_training_processes.py": "processes",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test of these files; single tests of other files carry the mark themselves."""
    for item in items:
        for path, mark in MARKS.items():
            if item.path.is_relative_to(ROOT / path):
                item.add_marker(mark)
