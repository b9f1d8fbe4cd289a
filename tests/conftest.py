"""Settings of the whole suite, and what the quick part leaves out."""

import pytest
from helpers.browser import launched
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
    "tests/cli/test_segment.py::test_killed": "processes",
    # many tests of about a second each
    "tests/cli/test_segment.py": "slow",
    "tests/exercises/test_fairness.py": "slow",
    "tests/interventions/": "slow",
    "tests/backbones/test_recording.py": "slow",
    "tests/widgets/explorer/test_explorer.py": "slow",
    "tests/backbones/test_dinov2.py::test_every_size": "slow",
    "tests/evaluation/test_photographs.py": "slow",
    "tests/evaluation/test_worlds.py::test_folds_are_merged": "slow",
    "tests/evaluation/test_worlds.py::test_models_that_differ": "slow",
    "tests/evaluation/test_worlds.py::test_own_weights": "slow",
    "tests/models/test_authors.py": "slow",
    "tests/models/test_load.py::test_every_size": "slow",
    "tests/test_lab.py::test_here_": "slow",
    "tests/test_lab.py::test_the_package_sets_the_policy": "slow",
    "tests/test_packaging.py::test_every_dependency_is": "slow",
    "tests/test_packaging.py::test_every_import_is": "slow",
    "tests/widgets/explorer/test_explorer.py::test_a_trace_with_gradients": "slow",
    "tests/test_packaging.py::test_the_core_dependencies": "slow",
    "tests/widgets/explorer/test_explorer.py::test_exported_notebook": "slow",
    "tests/widgets/explorer/test_explorer.py::test_names_may_hold_anything": "slow",
    "tests/widgets/explorer/test_explorer.py::test_size": "slow",
    "tests/widgets/explorer/test_agreement.py": "slow",
    "tests/datasets/test_folder.py::test_one_call_for": "slow",
    "tests/datasets/test_folder.py::test_a_model_is_scored": "slow",
    "tests/evaluation/test_worlds.py::test_the_networks_are_loaded": "slow",
    "tests/evaluation/test_worlds.py::test_weights_of_a_run": "slow",
    "tests/evaluation/test_scoring.py::test_scores_are_those": "slow",
    "tests/evaluation/test_scoring.py::test_one_shot_of": "slow",
    "tests/evaluation/test_ablation.py": "slow",
    "tests/cli/test_evaluate.py::test_identity": "slow",
    "tests/exercises/test_fairness.py::test_a_loop_without": "slow",
    "tests/images/test_annotations.py::test_ten_thousand": "slow",
    "tests/models/test_provenance.py": "slow",
    "tests/widgets/test_painter.py::test_it_is_saved": "slow",
    "tests/backbones/test_patch_tokens.py::test_a_pair": "slow",
    "tests/models/test_load.py::test_every_shipped": "slow",
    "tests/method/test_fssam.py::test_a_large_photo": "slow",
    "tests/method/test_fssam.py::test_options_do": "slow",
    "tests/method/test_fssam.py::test_episodes_of": "slow",
    "tests/training/test_trainer.py": "slow",
    "tests/backbones/test_cache.py::test_evaluation_counts": "slow",
    "tests/recipes/test_pretrain.py": "slow",
}
"""How the names of tests begin, and the mark of all these; other tests carry their marks themselves."""


@pytest.fixture(scope="module")
def browser():
    """A browser for the pages of a module. Skips its tests where there is none."""
    with launched() as started:
        yield started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for beginning, mark in MARKS.items():
            if item.nodeid.startswith(beginning):
                item.add_marker(mark)
