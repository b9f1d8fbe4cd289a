"""Remember what the frozen encoders say about an image, so that no image is encoded twice.

An entry belongs to one image (its type, shape and bytes) and to everything that decides the encoders' output down to
the last bit: weights and settings of both encoders, input size, precision, chunk size, device, number of threads,
version of PyTorch. Change any of these and the entry is not found. So numbers are identical with and without a cache.

That also needs outputs that do not depend on the images encoded beside. On a CPU they do in the last bits (matrix
products and convolutions are blocked by the size of the batch), therefore `FSSAM` encodes image by image there, with
and without a cache; that costs no time. On a GPU it encodes whole batches, which is much faster, but with a cache image
by image, so that what a cache holds never changes a number; set `model.chunk = 1` for the same numbers without one.

In evaluation a cache pays whenever images come back: 1,000 episodes of fold 0 of PASCAL-5i show 364 images 2,000
times. In training it pays only if images come back unchanged: with augmentation off (`augment=False`), or with a fixed
number of views (`pool=N`: N episodes, augmented once, are shown again and again).

An encoder in training mode is refused: what is cached carries no gradient.

At full size (SAM 2 small at 512, DINOv2-B/14 at 560) an image takes 9 MB in float32, with the toy model 0.8 MB.
"""

from __future__ import annotations

import json
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import safetensors.torch
import torch
from torch import Tensor, nn

from fss_lab.backbones.checkpoints import save_safetensors
from fss_lab.backbones.fingerprint import environment, fingerprint, hash_tensors, module_settings
from fss_lab.errors import FileError, InputError

Features = dict[str, Tensor]  # by name; the first axis counts images
CHECKSUM = "sha256"  # the name of its tensor in a file


class FeatureCache:
    """A least-recently-used store in memory, and behind it, if wanted, a folder that several processes may share.

    hits, misses: images found (in memory or in the folder, or twice in one batch), and images encoded.
    """

    def __init__(
        self, capacity_bytes: int = 4 * 2**30, directory: str | Path | None = None, device: str | torch.device = "cpu"
    ) -> None:
        """capacity_bytes: of the tensors held in memory; 0 keeps them in the folder only. The folder is not bounded,
        and may be deleted whenever nothing runs. device: whose memory; on a model's own card nothing is moved.

        Raises InputError for a capacity below 0, or of 0 without a folder; OSError where the folder cannot be made.
        """
        if capacity_bytes < 0 or (capacity_bytes == 0 and directory is None):
            raise InputError(
                f"capacity_bytes must be above 0, or 0 with a directory, got {capacity_bytes}; for no cache pass "
                "cache=None"
            )
        self.capacity_bytes = capacity_bytes
        self.device = torch.device(device)
        self.directory = None if directory is None else Path(directory)
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
        self.hits = self.misses = self.nbytes = 0
        self._entries: OrderedDict[str, Features] = OrderedDict()  # the least recently used first
        self._fingerprints: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()
        self._unwritable = False

    def __len__(self) -> int:
        """Images in memory."""
        return len(self._entries)

    def __repr__(self) -> str:
        where = "" if self.directory is None else f", directory={str(self.directory)!r}"
        return (
            f"FeatureCache({len(self)} images, {self.nbytes / 2**20:.1f} of {self.capacity_bytes / 2**20:.1f} MiB, "
            f"{self.hits} hits, {self.misses} misses{where})"
        )

    def fetch(
        self,
        images: Sequence[Tensor],
        networks: Sequence[nn.Module],
        settings: dict[str, Any],
        device: torch.device,
        encode: Callable[[Sequence[Tensor]], Features],
    ) -> Features:
        """The features of N images, encoding only those that were never seen: what `encode(images)` would give.

        images: (3, H, W) each, of any type. networks: whose weights decide the features. settings: whatever else does,
        as JSON can write it. encode: images -> contiguous tensors (number of images, ...) on `device`.
        Raises InputError if a network is in training mode: its features would differ from call to call.
        """
        # a bare convolution, such as those of SAM 2's decoder, computes the same in either mode
        parts = (part for network in networks if not isinstance(network, nn.Conv2d) for part in network.modules())
        if any(part.training for part in parts):
            raise InputError("a network in training mode gives other features each time: call eval() or pass no cache")
        context = json.dumps([settings, environment(device), *map(self._fingerprint, networks)], sort_keys=True)
        keys = [hash_tensors(context, {"image": image}) for image in images]
        known = {key: self._get(key) for key in dict.fromkeys(keys)}
        features_of = {key: features for key, features in known.items() if features is not None}
        missing = {key: image for key, image in zip(keys, images, strict=True) if key not in features_of}
        self.misses += len(missing)
        self.hits += len(images) - len(missing)
        if missing:
            # not as inference tensors: these may be trained on later
            with torch.inference_mode(False), torch.no_grad():
                fresh = encode(list(missing.values()))
            for number, key in enumerate(missing):
                features_of[key] = {name: tensor[number : number + 1] for name, tensor in fresh.items()}
                self._hold(key, features_of[key])
                self._write(key, features_of[key])
        rows = [features_of[key] for key in keys]
        return {name: torch.cat([row[name].to(device) for row in rows]) for name in rows[0]}

    def _get(self, key: str) -> Features | None:
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        features = self._read(key)
        if features is not None:
            self._hold(key, features)
        return features

    def _hold(self, key: str, features: Features) -> None:
        # a copy, for a part of a batch would keep the whole batch in memory
        copies = {name: tensor.to(self.device, copy=True) for name, tensor in features.items()}
        if _nbytes(copies) > self.capacity_bytes:
            return
        self._entries[key] = copies
        self.nbytes += _nbytes(copies)
        while self.nbytes > self.capacity_bytes:
            self.nbytes -= _nbytes(self._entries.popitem(last=False)[1])

    def _path(self, key: str) -> Path:
        assert self.directory is not None
        return self.directory / key[:2] / f"{key}.safetensors"  # 256 folders, for some systems slow down in large ones

    def _read(self, key: str) -> Features | None:
        """The entry of a file; None, with a warning, for a damaged one."""
        if self.directory is None:
            return None
        path = self._path(key)
        try:
            features = safetensors.torch.load(path.read_bytes())  # not mapped: Windows could not replace the file then
        except FileNotFoundError:
            return None
        except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
            reason = str(error) or type(error).__name__
        else:
            checksum = features.pop(CHECKSUM, torch.empty(0, dtype=torch.uint8))
            if bytes(checksum.tolist()).hex() == hash_tensors(key, features):
                return features
            reason = "its checksum does not fit its content"
        warnings.warn(f"the cached features in {path} are damaged ({reason}); they are computed again", stacklevel=5)
        return None

    def _write(self, key: str, features: Features) -> None:
        if self.directory is None or self._unwritable:
            return
        copies = {name: tensor.cpu() for name, tensor in features.items()}
        checksum = torch.tensor(list(bytes.fromhex(hash_tensors(key, copies))), dtype=torch.uint8)
        try:
            save_safetensors(self._path(key), {**copies, CHECKSUM: checksum})
        except FileError as error:
            # Windows refuses while another process reads the same entry; that one is as good. Else nothing is lost
            # but time, so the work goes on.
            self._unwritable = not self._path(key).exists()
            if self._unwritable:
                warnings.warn(f"from here on features are cached in memory only: {error}", stacklevel=5)

    def _fingerprint(self, network: nn.Module) -> str:
        """`fingerprint`, computed again only after a setting was changed, or a weight replaced or changed in place (not
        through `.data`, which PyTorch does not count)."""
        tensors = tuple(
            (id(tensor), tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
            for tensor in (*network.parameters(), *network.buffers())
        )
        state = (module_settings(network), tensors)
        if network not in self._fingerprints or self._fingerprints[network][0] != state:
            self._fingerprints[network] = (state, fingerprint(network))
        return self._fingerprints[network][1]


def _nbytes(features: Features) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in features.values())
