"""FSSAM (Xu et al., ICML 2025): prompts (PPG), refinement (IMR), calibration (SCMA), their composition."""

from fss_lab.method.fssam import FSSAM
from fss_lab.method.records import Encoded, Options, Output, Prediction, Support
from fss_lab.method.trace import Trace

__all__ = ["FSSAM", "Encoded", "Options", "Output", "Prediction", "Support", "Trace"]
