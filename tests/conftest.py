"""Settings of the whole suite, and what the quick part leaves out."""

import pytest
from hypothesis import settings

# The same examples everywhere, and no alarm when a busy machine is slow.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

MARKS = {
    "notebooks/": "notebook",
    "tests/notebooks/test_papermill.py": "notebook",
    "tests/course/test_execution.py": "notebook",
    "tests/course/test_site.py": "browser",
    "tests/widgets/explorer/test_jupyterlab.py": "browser",
    "tests/widgets/explorer/test_page.py": "browser",
    "tests/training/test_training_faults.py": "processes",
    "tests/training/test_training_processes.py": "processes",
    "tests/evaluation/test_photographs.py": "slow",
    "tests/figures/test_nb10_uncertainty.py::test_protocols[3-5]": "slow",
    "tests/widgets/explorer/test_explorer.py::test_size": "slow",
}
"""How the names of tests begin, and their mark; single tests of other files carry it themselves."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for beginning, mark in MARKS.items():
            if item.nodeid.startswith(beginning):
                item.add_marker(mark)
