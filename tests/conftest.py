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
    "tests/backbones/test_dinov2.py::test_every_size": "slow",
    "tests/evaluation/test_photographs.py": "slow",
    "tests/figures/test_nb04_prompts.py::test_pictures_of_features_and_priors": "slow",
    "tests/figures/test_nb10_uncertainty.py::test_protocols": "slow",
    "tests/models/test_authors.py": "slow",
    "tests/models/test_load.py::test_every_size": "slow",
    "tests/models/test_provenance.py::test_other_frozen_networks": "slow",
    "tests/widgets/explorer/test_explorer.py::test_exported_notebook": "slow",
    "tests/widgets/explorer/test_explorer.py::test_names_may_hold_anything": "slow",
    "tests/widgets/explorer/test_explorer.py::test_size": "slow",
}
"""How the names of tests begin, and the mark of all these; other tests carry their marks themselves."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for beginning, mark in MARKS.items():
            if item.nodeid.startswith(beginning):
                item.add_marker(mark)
