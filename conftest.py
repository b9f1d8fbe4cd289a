"""`pytest --nbmake notebooks/` runs each notebook as shipped; here what it records is compared with expected.json."""

from functools import wraps

from nbmake.nb_result import NotebookError
from nbmake.nb_run import NotebookRun

from fss_lab.course.execution import EXPECTED, TOLERANCE, differences, expectations
from fss_lab.course.notebooks import records


def compared(execute):
    """nbmake's own method, whose result is an error if a recorded value is not the expected one."""

    @wraps(execute)
    def run(self):
        result, folder = execute(self), self.filename.parent
        entry = expectations(folder).get(self.filename.stem, {}) if (folder / EXPECTED).exists() else {}
        if result.error is None and "shipped" in entry:
            wrong = differences(records(result.nb), entry["shipped"], entry.get("tolerance", TOLERANCE))
            if wrong:
                result.error = NotebookError("other values than in expected.json", "\n".join(wrong), -1)
        return result

    return run


def pytest_configure():
    """nbmake has no hook for what a notebook left behind."""
    NotebookRun.execute = compared(NotebookRun.execute)
