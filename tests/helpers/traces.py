"""Traces with something changed."""

from dataclasses import replace

from fss_lab.method import Trace


def with_inputs(trace: Trace, **changes: object) -> Trace:
    """The trace as if something else had been segmented."""
    assert trace.inputs is not None
    return replace(trace, inputs=replace(trace.inputs, **changes))
