"""Steps as plain frozen records: their fields are the command line's options, and the keys of a TOML recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from optimizer.errors import ConfigError
from optimizer.recipe.images import IMAGENET, Preprocess

Mode = Literal["auto", "static", "dynamic", "weights", "half"]
Calibration = Literal["mse", "minmax", "percentile", "entropy"]
Recover = Literal["none", "bias", "full"]
Criterion = Literal["auto", "magnitude", "wanda", "obs", "random"]
Scope = Literal["auto", "layer", "global"]
GRANULARITIES = ("channel", "head", "layer")
BLOCK_SIZES = (16, 32, 64, 128, 256)
Target = Literal["auto", "vnni", "avx2", "avx512", "arm64"]


@dataclasses.dataclass(frozen=True)
class Quantize:
    """int8 quantization. `max_drop` is a share (0.01 = 1%) of the metric's value on the original model."""

    mode: Mode = "auto"
    calibration: Calibration = "mse"
    recover: Recover = "full"
    target: Target = "auto"
    per_tensor: bool = False
    bits: int | None = None
    block_size: int | None = None
    """With mode `weights`: products by constants take weights of 4 or 8 bits, with a scale for each block of inputs."""
    everywhere: bool = False
    """int8 wherever there is a kernel, whether it is expected to pay or not (static only)."""
    placed: tuple[str, ...] | None = None
    """Of nodes that have an int8 kernel, these use it, and no others: what a measured placement has found, as names."""
    plain: tuple[str, ...] = ()
    """With `placed`: of the other nodes, those whose weights are stored as float16, not as int8."""
    inputs: bool = False
    """The graph's own float inputs become uint8."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """With `inputs`: images are prepared as ``(byte / 255 - mean) / std``, one number each or one per channel, so that
    the caller sends the bytes. Not given: as the run's images, if that says so, else as the samples' range suggests."""
    outputs: bool = False
    augment: str | None = None
    """Calibrate on ten times the samples, changed like this (see `data.strengths`); None: on the samples alone."""
    max_drop: float | None = None
    metric: str | None = None
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    measure: bool = True

    def __post_init__(self) -> None:
        if self.max_drop is not None and not 0 <= self.max_drop <= 1:
            raise ConfigError(f"--max-drop must lie between 0% and 100%, not {self.max_drop:.0%}")
        if self.everywhere and self.mode in ("dynamic", "weights", "half"):
            raise ConfigError(f"--everywhere places static int8: not with --mode {self.mode}")
        if self.placed is not None and (self.mode not in ("static", "dynamic") or self.everywhere):
            raise ConfigError("placed says which nodes are int8: it needs mode static or dynamic, without everywhere")
        if self.plain and self.placed is None:
            raise ConfigError("plain says which nodes that are not placed stay as they are: give placed too")
        if self.blocks is not None and self.mode != "weights":
            raise ConfigError("--bits and --block-size are for --mode weights: add that")
        if self.bits not in (None, 4, 8):
            raise ConfigError(f"--bits must be 4 or 8, not {self.bits}")
        if self.block_size not in (None, *BLOCK_SIZES):
            raise ConfigError(f"--block-size must be one of {', '.join(map(str, BLOCK_SIZES))}, not {self.block_size}")
        if (self.mean or self.std) and not self.inputs:
            raise ConfigError("--mean and --std say what bytes at the input mean: give --inputs too")
        if bool(self.mean) != bool(self.std):
            raise ConfigError("give --mean and --std both: an image is prepared as (byte / 255 - mean) / std")
        if any(not -1 <= number <= 1 for number in self.mean) or any(number <= 0 for number in self.std):
            raise ConfigError("--mean must lie between -1 and 1, --std above 0: 1.0 is white, so divide bytes by 255")

    @property
    def blocks(self) -> tuple[int, int] | None:
        """Bits and size of the blocks of weights, if there are to be blocks."""
        if self.bits is None and self.block_size is None:
            return None
        return self.bits or 8, self.block_size or 32


@dataclasses.dataclass(frozen=True)
class Prune:
    """Pruning. `sparsity` is the share of parameters that goes, `macs` the share of MACs that stays."""

    TARGETS: ClassVar = ("sparsity", "macs", "latency")
    """Of these one at most is given."""

    sparsity: float | None = None
    macs: float | None = None
    latency: float | None = None
    """The share of the time that stays, as measured."""
    structured: bool = True
    """Whole channels, heads and blocks go; else single weights become zero."""
    pattern: str | None = None
    """Zeros by `N:M` (N of every M inputs of a weight stay) or in blocks of `OUTPUTSxINPUTS`; unstructured only."""
    mask_only: bool = False
    granularity: tuple[str, ...] = ("channel", "head")
    criterion: Criterion = "auto"
    """`auto`: obs with real data, wanda where nothing is repaired, magnitude without data."""
    repair: bool = True
    """Fit what reads pruned channels anew; only with real data."""
    scope: Scope = "auto"
    """`auto` is `global` where obs measures on real data what each group is worth, and `layer` elsewhere."""
    align: int | None = None
    """Kept counts are multiples of this; None: of 16 in large groups, of less in small ones."""
    lossy: bool = False
    """Let norms take statistics over fewer channels than before, which masking cannot show."""
    max_drop: float | None = None
    metric: str | None = None
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    measure: bool = True

    def __post_init__(self) -> None:
        given = [share for share in (self.sparsity, self.macs, self.latency) if share is not None]
        self._check_zeros()
        if len(given) > 1 or (not given and self.max_drop is None and self.pattern is None):
            raise ConfigError(
                "give one target: --sparsity 0.5 (what goes), --macs 0.5 or --latency 0.6 (what stays), "
                "or --max-drop 1% alone (as much as its bound allows)"
            )
        if given and not 0 < given[0] < 1:
            raise ConfigError(f"--sparsity, --macs and --latency are shares between 0 and 1, not {given[0]:g}")
        if self.latency is not None and (self.mask_only or not self.measure):
            raise ConfigError(
                "--latency is measured on the model that is removed from: not with --mask-only, --no-measure"
            )
        if unknown := set(self.granularity) - set(GRANULARITIES):
            raise ConfigError(f"unknown granularity {', '.join(sorted(unknown))}: choose of {', '.join(GRANULARITIES)}")
        if self.align is not None and self.align < 1:
            raise ConfigError(f"--align must be at least 1, not {self.align}")

    def _check_zeros(self) -> None:
        if self.structured and self.pattern is not None:
            raise ConfigError("--pattern says where single weights become zero: it needs --unstructured")
        if self.structured:
            return
        if self.macs is not None or self.latency is not None:
            raise ConfigError("zeros save neither MACs nor time: --unstructured takes --sparsity, or use --structured")
        if self.mask_only or self.lossy or self.align is not None:
            raise ConfigError("--mask-only, --lossy and --align are about channels: not with --unstructured")
        fixed = self.pattern is not None and ":" in self.pattern
        if fixed and self.sparsity is not None:
            raise ConfigError(f"--pattern {self.pattern} fixes the share of zeros: leave --sparsity out")
        if self.pattern is not None and not fixed and self.sparsity is None and self.max_drop is None:
            raise ConfigError(f"--pattern {self.pattern} needs a share of zeros: add --sparsity 0.5")


USUAL_MINUTES = 2.5
"""How long fine-tuning takes at most where nothing is said about it."""


@dataclasses.dataclass(frozen=True)
class Finetune:
    """Fine-tuning and distillation. Shares lie in 0..1; weights of loss terms are factors."""

    epochs: int | None = None
    """Passes over the training samples; None takes as many as give about 2,000 steps (8,000 where `minutes` is given),
    at least 3."""
    minutes: float | None = None
    """Stop after this long; where it is too short for all steps, the learning rate falls with the time. None: after
    `USUAL_MINUTES`, or, where `epochs` is given, after those."""
    lr: float | None = None
    """The highest learning rate; None tries a few and takes the best. Of adamw, a share of the size of the weights."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    batch: int = 16
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises, before it falls as a cosine."""
    clip: float = 1.0
    """The longest gradient; 0 does not clip."""
    weight_decay: float = 0.0
    ema: float = 0.99
    """Decay of the running average of the weights that is judged and written; 0 takes the weights themselves."""
    patience: int = 20
    """Evaluations without a better loss before it stops; there are about 20."""
    holdout: float = 0.2
    """Share of the samples that is only judged on."""
    loss: Literal["auto", "kl", "mse", "cosine"] = "auto"
    temperature: float = 2.0
    labels: float = 0.0
    """Weight of the cross-entropy with the labels."""
    features: float = 2.5
    """How much tensors that student and teacher both have inside count at the start, as against the outputs."""
    outputs: tuple[str, ...] = ()
    """Learn from the outputs whose names fit these patterns only."""
    augment: str = "auto"
    """See `data.augment`."""
    metric: str | None = None

    @property
    def limit(self) -> float | None:
        """Minutes that training may take."""
        return self.minutes if self.minutes is not None or self.epochs is not None else USUAL_MINUTES

    def __post_init__(self) -> None:
        for name, least, most in _FINETUNE_LIMITS:
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ConfigError(f"{name.replace('_', '-')} must lie between {least:g} and {most:g}, not {value:g}")


_FINETUNE_LIMITS = (
    ("epochs", 1, 1e6), ("minutes", 1e-3, 1e5), ("lr", 1e-9, 1e2), ("batch", 1, 1e6), ("warmup", 0, 1),
    ("clip", 0, 1e9), ("weight_decay", 0, 10), ("ema", 0, 0.99999), ("patience", 1, 1e6), ("holdout", 0.01, 0.9),
    ("temperature", 0.1, 100), ("labels", 0, 1e6), ("features", 0, 1e6),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Bench:
    """A comparison in speed, memory, size and answers, with gates; in a recipe, of the original and what it became."""

    metric: str | None = None
    fail_if: tuple[str, ...] = ()
    """Gates, as `bench.gates` writes them."""
    inconclusive: Literal["pass", "fail"] = "fail"
    """What becomes of a gate that the measurement cannot decide."""
    per_op: bool = False
    memory: bool = False
    runs: int | None = None
    """Timed rounds; None takes as many as it takes."""
    time_budget: float = 20.0
    """Seconds of timing for each candidate at most."""
    batch: int = 1
    concurrency: int = 1
    spin: bool = False
    save_baseline: Path | None = None
    """Where to keep the last candidate's figures."""
    baseline: Path | None = None
    """The kept figures of an earlier run, to compare with."""
    measure: bool = True
    """Without, sizes and answers alone are compared, and gates on anything else are not judged."""

    def __post_init__(self) -> None:
        for name in ("batch", "concurrency", "runs", "time_budget"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"--{name.replace('_', '-')} must be above 0, not {value}")


@dataclasses.dataclass(frozen=True)
class Run:
    """What all commands have in common."""

    data: str | None = None
    samples: int | None = None
    seed: int = 0
    threads: int = 1
    dims: tuple[tuple[str, int], ...] = ()
    images: Preprocess = IMAGENET
    """How images are prepared, where the data is a folder of them."""
    held_back: float = 0.0
    """Share of the samples that no step sees, so that others can judge on them."""

    def __post_init__(self) -> None:
        for name, value in (("samples", self.samples), ("threads", self.threads), *self.dims):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if not 0 <= self.held_back <= 0.9:
            raise ConfigError(f"held-back must lie between 0 and 0.9, not {self.held_back:g}")


def share(text: str) -> float:
    """`1%` or `0.01` as 0.01. Raises `ConfigError`."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"{text!r} is no share: write it as 1% or 0.01") from None
