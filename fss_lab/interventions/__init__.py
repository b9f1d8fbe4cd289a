"""What if? Hide or exchange parts of the memory that an FSSAM reads, and see what becomes of its mask.

    from fss_lab.interventions import Where, knock_out, patch, sweep

    prediction = model.segment(episode, trace=True)
    knock_out(model, prediction, Where(block="query"))  # a Prediction without the query memory
    sweep(model, prediction, ("layer", "block")).values  # (layers, blocks): the IoU that is lost without each

The encoders run once, for the trace; an intervention runs memory attention and the decoder again, step by step as a
traced pass does. So an intervention nowhere gives the traced prediction to the last bit. Knows the method and its
traces; nothing of data sets and of how anything is drawn.

Shapes: grid h x w, N = h * w cells, L key columns [support | query memory | pointers] as a layer reads them.
Sources: knock-outs, Wang et al., 2022 (arXiv:2211.00593); patching, Meng et al., 2022 (arXiv:2202.05262); the lens,
nostalgebraist, "interpreting GPT: the logit lens", 2020.
"""

from __future__ import annotations

from fss_lab.interventions.changes import PARTS, knock_out, patch
from fss_lab.interventions.layers import Lens, lens
from fss_lab.interventions.sweeps import AXES, Effect, Sweep, sweep
from fss_lab.interventions.where import Where, blocks

__all__ = ["AXES", "PARTS", "Effect", "Lens", "Sweep", "Where", "blocks", "knock_out", "lens", "patch", "sweep"]
