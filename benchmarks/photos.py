"""A thousand photos through `fss-lab segment`: seconds a photo, memory over time, and a kill -9 in the middle.

    python benchmarks/photos.py                                                     # the toy and 1,000 photos
    python benchmarks/photos.py --photos 24 --model sam2-small+dinov2-base --weights random        # of full size

Makes photos of the toy world's scenes as JPEGs of several sizes, runs the command until --kill of them are done, kills
it, and runs the same command again to the end. Then the two encoders run alone on photos of these, and so does the
whole method without files, for comparison. Seconds are those of the processor, of all threads together, so other
programs on the machine count little. Reads /proc, so it needs Linux. Writes photos.md and photos.json. Tests never run
this.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance

from fss_lab import FSSAM, Pictograms, load_model
from fss_lab.images import load_image, reduced

SIZES = ((640, 480), (480, 640), (800, 600), (1024, 768))  # width and height
SCENES = 40  # that are drawn; each becomes many photos of other sizes and brightness


def make_photos(root: Path, count: int) -> None:
    """`count` JPEGs in root/queries, no two alike, and a support photo with its mask in root."""
    world = Pictograms(fold=0, split="novel", size=384, episodes=SCENES)
    world.shots = 1
    (root / "queries").mkdir(parents=True, exist_ok=True)
    for scene in range(min(count, SCENES)):
        class_id, (query, support) = world.scenes(scene)
        if scene == 0:
            Image.fromarray(support.image).save(root / "support.jpg", quality=92)
            Image.fromarray(np.uint8(255) * (support.mask(class_id) == 1)).save(root / "support.png")
        for index in range(scene, count, SCENES):
            photo = Image.fromarray(query.image).resize(SIZES[index // SCENES % len(SIZES)])
            brighter = ImageEnhance.Brightness(photo).enhance(0.7 + 0.6 * index / count)
            brighter.save(root / "queries" / f"{index:05d}.jpg", quality=92)


def watch(command: Sequence[str], output: Path, kill_at: int | None = None) -> dict[str, Any]:
    """Run the command to its end, or until `kill_at` masks are there.

    samples: every half second, how many masks there are, seconds of the processor, and MB in memory.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    start, samples = time.monotonic(), list[tuple[int, float, float]]()
    while process.poll() is None:
        time.sleep(0.5)
        done = sum(entry.name.endswith(".png") for entry in os.scandir(output)) if output.is_dir() else 0
        with suppress(OSError):  # it has just ended
            samples.append((done, *resources(process.pid)))
        if kill_at is not None and done >= kill_at:
            process.send_signal(signal.SIGKILL)
    text, _ = process.communicate()
    return {"status": process.returncode, "text": text, "wall": time.monotonic() - start, "samples": samples}


def resources(pid: int) -> tuple[float, float]:
    """Seconds of the processor up to now, and MB in memory now. Raises OSError for a process that has ended."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    sizes = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK"), int(sizes[0]) / 1024 if sizes else 0.0


def rate(samples: Sequence[tuple[int, float, float]]) -> float:
    """Seconds of the processor a photo, from the first mask that was seen to the last."""
    seen = [sample for sample in samples if sample[0] > samples[0][0]]
    return (seen[-1][1] - seen[0][1]) / max(1, seen[-1][0] - seen[0][0]) if seen else float("nan")


def time_of(task: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Mean seconds of the processor of a task on one item; the first one warms up."""
    task(items[0])
    start = time.process_time()
    for item in items[1:]:
        task(item)
    return (time.process_time() - start) / max(1, len(items) - 1)


def alone(root: Path, model: FSSAM, count: int) -> dict[str, float]:
    """Seconds a photo of the encoders and of the whole method, in this process and without files."""
    support = model.remember(root / "support.jpg", root / "support.png")
    photos = [load_image(path) for path in sorted((root / "queries").glob("*.jpg"))[: count + 1]]
    seen = [reduced(photo, model.sam2.image_size) for photo in photos]
    with torch.inference_mode():
        return {
            "encoders": time_of(lambda photo: model.encode_images([photo]), seen),
            "method": time_of(lambda photo: model.segment_classes(photo, {"object": support}), photos),
        }


def main(arguments: Sequence[str] | None = None) -> str:
    """Make the photos, run, kill, go on, compare; returns the text of photos.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--kill", type=int, help="after so many photos (default: 2 of 5)")
    parser.add_argument("--model", default="toy")
    parser.add_argument("--weights", choices=("random",))
    parser.add_argument("--output", type=Path, default=Path("runs/photos"))
    chosen = parser.parse_args(arguments)
    root, output = chosen.output, chosen.output / "masks"
    make_photos(root, chosen.photos)
    words = ["--support", root / "support.jpg", root / "support.png", "--output", output, "--min-score", "0"]
    words += ["--model", chosen.model, *(["--weights", chosen.weights] if chosen.weights else []), root / "queries"]
    command = [sys.executable, "-m", "fss_lab", "segment", *map(str, words)]
    killed = watch([*command, "--overwrite"], output, chosen.kill or 2 * chosen.photos // 5)
    resumed = watch(command, output)
    model = load_model(chosen.model, weights=chosen.weights or "default")
    parts = alone(root, model, min(50, chosen.photos))
    whole = sum(path.stat().st_size for path in output.iterdir() if path.is_file()) / 1e6
    content = json.loads((output / "segments.json").read_text())
    facts = {"killed": killed, "resumed": resumed, "alone": parts, "megabytes written": whole}
    (root / "photos.json").write_text(json.dumps(facts) + "\n")
    text = report(chosen, killed, resumed, parts, len(content["images"]), whole)
    (root / "photos.md").write_text(text)
    print(text)
    return text


def report(
    chosen: argparse.Namespace, killed: dict[str, Any], resumed: dict[str, Any], parts: dict[str, float], images: int,
    whole: float,
) -> str:  # fmt: skip
    """photos.md."""
    rows = [("encoders alone", parts["encoders"]), ("whole method, no files", parts["method"])]
    rows += [("`fss-lab segment`", rate(resumed["samples"]))]
    lines = [f"{chosen.photos} photos, {chosen.model}, CPU, {torch.get_num_threads()} threads", ""]
    lines += ["| | processor seconds a photo | of the encoders' |", "|---|---|---|"]
    lines += [f"| {name} | {seconds:.3f} | {seconds / parts['encoders']:.2f} |" for name, seconds in rows]
    memory = [sample[2] for sample in resumed["samples"] if sample[0] > resumed["samples"][0][0]] or [0.0]
    quarters = [max(part) for part in np.array_split(memory, 4) if len(part)]
    lines += ["", "| part of the resumed run | most memory, MB |", "|---|---|"]
    lines += [f"| quarter {number} | {most:.0f} |" for number, most in enumerate(quarters, 1)]
    lines += [
        "",
        f"Killed (status {killed['status']}) after {killed['samples'][-1][0]} photos and {killed['wall']:.0f} s; the "
        f"same command ended with status {resumed['status']} after {resumed['wall']:.0f} s and wrote: "
        f"{' '.join(resumed['text'].split())}",
        f"segments.json has {images} images; {whole:.0f} MB written.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
