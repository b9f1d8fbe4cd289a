"""What `record` leaves in a notebook."""

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from fss_lab.course.record import RECORD, record


def test_values_are_shown_and_left_as_plain_numbers():
    InteractiveShell.instance()
    with capture_output() as shown:
        record(miou=np.float32(0.5), prior=torch.tensor(0.25), cells=torch.tensor([256]), right=np.bool_(True), shots=5)
    InteractiveShell.clear_instance()
    (output,) = shown.outputs
    values = output.data[RECORD]
    assert values == {"miou": 0.5, "prior": 0.25, "cells": 256, "right": True, "shots": 5}
    assert [type(value) for value in values.values()] == [float, float, int, bool, int]
    assert output.data["text/plain"] == "miou = 0.5 · prior = 0.25 · cells = 256 · right = True · shots = 5"


@pytest.mark.parametrize("value", ["0.5", None, float("nan"), float("inf"), torch.ones(2), [1]])
def test_anything_else_is_refused(value):
    with pytest.raises(ValueError, match="finite numbers and truth values, but miou is"):
        record(miou=value)
