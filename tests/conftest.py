"""Settings of the whole suite, and what the quick part leaves out."""

import pytest
from hypothesis import settings

# The same examples everywhere, and no alarm when a busy machine is slow.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

MARKS = {
    "notebooks/": "notebook",
    "tests/notebooks/test_papermill.py": "notebook",
    "tests/figures/test_nb": "notebook",
    "tests/course/test_execution.py": "notebook",
    "tests/course/test_grading.py": "notebook",
    "tests/course/test_site.py": "browser",
    "tests/widgets/explorer/test_jupyterlab.py": "browser",
    "tests/widgets/explorer/test_page.py": "browser",
    "tests/training/test_training_faults.py": "processes",
    "tests/training/test_training_processes.py": "processes",
    "tests/backbones/test_dinov2.py::test_every_size": "slow",
    "tests/evaluation/test_photographs.py": "slow",
    "tests/evaluation/test_worlds.py::test_folds_are_merged": "slow",
    "tests/evaluation/test_worlds.py::test_models_that_differ": "slow",
    "tests/evaluation/test_worlds.py::test_own_weights": "slow",
    "tests/models/test_authors.py": "slow",
    "tests/models/test_load.py::test_every_size": "slow",
    "tests/models/test_provenance.py::test_other_frozen_networks": "slow",
    "tests/test_lab.py::test_here_": "slow",
    "tests/test_lab.py::test_the_package_sets_the_policy": "slow",
    "tests/test_packaging.py::test_every_dependency_is": "slow",
    "tests/test_packaging.py::test_every_import_is": "slow",
    "tests/widgets/explorer/test_explorer.py::test_a_trace_with_gradients": "slow",
    "tests/test_packaging.py::test_the_core_dependencies": "slow",
    "tests/training/test_trainer.py::test_a_run_of_an_earlier_version": "slow",
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
