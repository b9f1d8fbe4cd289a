"""What the toy SAM 2 needs of its memory of a video: python benchmarks/video_memory.py --clips 12

Tracks one object through clips of the toy world with the stock video predictor, and again with parts of its memory
hidden. Prints, as a table, the attention of the last frame's object, and the IoU that is lost without each part, with
95 % intervals over clips. docs/explorer.md shows the numbers; tests never run this.
"""

from __future__ import annotations

import argparse
import io
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fss_lab import Pictograms, load_model, record_memory
from fss_lab.backbones.recording import Recording, video_predictor
from fss_lab.figures.prediction import object_cells
from fss_lab.metrics import iou, mean_interval

LAST = 7
"""The frame that is asked: its memory holds frames 0 to 6."""


def without(*frames: int) -> dict[str, Any]:
    """Hide the grids of some frames from the last one."""
    return {"hide": lambda frame, block: frame == LAST and block.frame in frames and not block.pointer}


RUNS: dict[str, dict[str, Any]] = {
    "whole": {},
    **{f"last frame without frame {t}": without(t) for t in range(LAST)},
    f"last frame without frames 1 to {LAST - 1}": without(*range(1, LAST)),
    "frame 0 alone, in all frames": {"hide": lambda frame, block: block.frame > 0},
    "no object pointers, in all frames": {"hide": lambda frame, block: block.pointer},
    "no temporal code, in all frames": {"temporal_code": False},
}


def track(predictor: Any, folder: str, mask: Tensor, **changes: Any) -> tuple[Tensor, Recording]:
    """Masks (T, H, W) bool of a clip whose first mask (H, W) is given, and what was read."""
    with record_memory(predictor, frames=lambda frame: frame == LAST, **changes) as recording:
        state = predictor.init_state(folder)
        predictor.add_new_mask(state, 0, 1, mask)
        masks = [logits[0, 0] > 0 for _, _, logits in predictor.propagate_in_video(state)]
    return torch.stack(masks), recording


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    predictor = video_predictor(load_model("toy", weights="pretrained").sam2)
    world = Pictograms(options.fold, "novel", seed=options.seed)
    scores: dict[str, list[Tensor]] = {name: [] for name in RUNS}  # of frames 1 to LAST
    rows: list[list[float]] = []  # attention to frames 0 to 6, on the object in them, pointers; mean over layers
    for clip in range(options.clips):
        images, instances = world.clip(clip, LAST + 1)
        truth = torch.where(instances == 255, 255, (instances == 1).long())
        with TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
            for t, image in enumerate(images):
                Image.fromarray(image.byte().permute(1, 2, 0).numpy()).save(Path(folder, f"{t}.jpg"), quality=95)
            for name, changes in RUNS.items():
                masks, recording = track(predictor, folder, truth[0] == 1, **changes)
                scores[name].append(100 * iou(masks, truth)[1:])
                if name == "whole":
                    call = recording.of(LAST)
                    cells = [object_cells(mask, call.grid) for mask in truth]
                    read = [call.attention(layer, cells[LAST]) for layer in range(len(call.q))]
                    weights = 100 * torch.stack(read).mean(0)
                    grids = {b.frame: weights[b.columns] for b in call.blocks if not b.pointer}
                    pointers = sum(float(weights[b.columns].sum()) for b in call.blocks if b.pointer)
                    on = sum(float(grid[cells[t].flatten()].sum()) for t, grid in grids.items())
                    rows.append([*(float(grids[t].sum()) for t in range(LAST)), on, pointers])
    names = [*(f"frame {t}" for t in range(LAST)), "the object, in frames 0 to 6", "object pointers"]
    print(f"attention of the object in frame {LAST}, percent, mean of {options.clips} clips")
    for name, share in zip(names, torch.tensor(rows).mean(0).tolist(), strict=True):
        print(f"  {name}: {share:.1f}")
    whole = torch.stack(scores["whole"])
    print(f"IoU: {whole[:, -1].mean():.1f} in frame {LAST}, {whole.mean():.1f} in frames 1 to {LAST}; lost, points:")
    for name in list(RUNS)[1:]:
        table = torch.stack(scores[name])
        last, mean = (
            mean_interval(before.numpy(), after.numpy())
            for before, after in ((whole[:, -1], table[:, -1]), (whole.mean(1), table.mean(1)))
        )
        print(f"  {name}: frame {LAST} {last[0]:+.1f} ({last[1]:+.1f} to {last[2]:+.1f})", end="")
        print(f", all {mean[0]:+.1f} ({mean[1]:+.1f} to {mean[2]:+.1f})")


if __name__ == "__main__":
    main()
