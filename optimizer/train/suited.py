"""Which augmentation suits the data, found by asking the teacher.

An augmentation is fine where it leaves what is in a sample: then the teacher answers a changed sample as it answers the
sample itself. Change after change is added, each as strong as it can be while at least `SAME` of the answers to all of
them together stay; a mirrored photograph keeps its class, many mirrored digits do not. Only class scores tell; where
there are none, and for sequences and tokens, the mild mixture of `data.strengths.AUTO` is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optimizer.data.augment import FEW, kind_of, parse
from optimizer.data.samples import Samples
from optimizer.data.warp import Read
from optimizer.model.ports import Array
from optimizer.train.losses import Output
from optimizer.train.teacher import Teacher

ASKED = 64
SAME = 0.9
LADDERS = (
    ("flip",),
    ("rotate=10", "rotate=5"),
    ("shear=0.1",),
    ("scale=0.9:1.1",),
    ("shift=0.07",),
    ("colour=0.2",),
    ("crop=0.7", "crop=0.85"),
)
"""Changes of images, each from strong to weak."""
BLENDS = "mixup=1,cutmix=0.5"


def suited(text: str, samples: Samples, teacher: Teacher, outputs: tuple[Output, ...], seed: int) -> str:
    """`text` itself, or, for `auto` and images of few samples, what the teacher says suits them."""
    scores = [output.teacher for output in outputs if output.kind in ("kl", "logits")]
    images = any(kind_of(array) == "image" for array in samples[0].values())
    if text != "auto" or not scores or not images or len(samples) > FEW:
        return text
    few = samples.pick(ASKED, seed)
    before = [teacher.answer([feed])[scores[0]].argmax(-1) for feed in few]

    def keeps(change: str) -> bool:
        how, random = parse(change), np.random.default_rng(seed)
        after = [teacher.answer([how.apply(feed, random)])[scores[0]].argmax(-1) for feed in few]
        return float(np.mean([(a == b).mean() for a, b in zip(after, before, strict=True)])) >= SAME

    found: list[str] = []
    for ladder in LADDERS:
        found.extend([change for change in ladder if keeps(",".join([*found, change]))][:1])
    return ",".join([*found, BLENDS])


def reader(torch: Any) -> Read:
    """`data.warp.bilinear` in torch, several times as fast; the thread that makes samples ready is the one that waits
    for it."""

    def read(image: Array, x: Array, y: Array) -> Array:
        places = [2 * place / max(size - 1, 1) - 1 for place, size in zip((x, y), image.shape[:0:-1], strict=True)]
        grid = torch.from_numpy(np.stack(places, -1).astype(np.float32))
        rows = torch.from_numpy(image.astype(np.float32, copy=False))[None]
        found: Array = torch.nn.functional.grid_sample(
            rows, grid[None], mode="bilinear", padding_mode="border", align_corners=True
        )[0].numpy()
        return found

    return read
