"""What a run found out, as plain frozen records. Exporters and displays read them; they compute nothing.

Every record turns into JSON through `to_json`, whose top level carries `schema_version`. Times are milliseconds,
sizes are bytes, drops are differences `before - after` (positive = worse), ratios are `after / before`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Generic, TypeVar

SCHEMA_VERSION = 1

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Change(Generic[T]):
    """One figure of the baseline and of the candidate."""

    before: T
    after: T


@dataclasses.dataclass(frozen=True)
class Quantiles:
    """Latency of one model, in milliseconds."""

    p50: float
    p90: float
    p99: float


@dataclasses.dataclass(frozen=True)
class Latency:
    """Paired latency of baseline and candidate; `speedup` is the geometric mean of `before / after` over pairs."""

    before: Quantiles
    after: Quantiles
    speedup: float
    ci95: tuple[float, float]
    verdict: str
    """`faster`, `slower` or `inconclusive`: the whole confidence interval lies on one side, beyond the noise floor."""
    pairs: int
    noise_floor: float | None = None
    """Half width of the A/A interval, as a log ratio (0.01 = 1%); None where no A/A run was made."""


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """How the candidate's answers compare with the baseline's. `drop` is `before - after` of `metric`."""

    metric: str
    before: float
    after: float
    drop: float
    agreement: float | None
    """Share of samples with the same arg-max in both models; None where the outputs are no class scores."""
    sqnr_db: float
    cosine: float
    max_error: float
    samples: int
    synthetic: bool
    """True when no real data was given: the figures say little about real inputs."""
    answers: int = 0
    """Answers that agreement compares, more than `samples` where one holds several (characters of a line); 0: none."""
    vacuous: str = ""
    """Why equal answers prove nothing here, such as a baseline that gives NaN for every sample; empty where they do."""
    quantities: bool = True
    """Whether any output holds quantities. Of ids alone SQNR, cosine and max_error say nothing."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """The warning that belongs to a comparison that proves nothing."""
        return (
            (f"the comparison proves nothing: {self.vacuous}; give real samples with --data",) if self.vacuous else ()
        )

    @property
    def closeness(self) -> float:
        """SQNR in dB; of ids alone, the share that is equal."""
        return self.sqnr_db if self.quantities else self.agreement or 0.0

    @property
    def lost(self) -> float:
        """How many answers the drop stands for: samples where there are none."""
        return self.drop * max(self.answers, self.samples)


@dataclasses.dataclass(frozen=True)
class NodeDecision:
    """What quantization did with one node, and why."""

    name: str
    op: str
    action: str
    """`int8`, `float` or `dynamic` or `weights`."""
    reason: str


@dataclasses.dataclass(frozen=True)
class FrozenAxis:
    """A tensor axis that pruning leaves alone, and why."""

    tensor: str
    axis: int
    reason: str


@dataclasses.dataclass(frozen=True)
class GateResult:
    """A `--fail-if` condition or bound and how it came out."""

    condition: str
    status: str
    """`passed`, `missed` or `inconclusive`."""
    message: str


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where the figures were measured."""

    cpu: str
    isa: tuple[str, ...]
    """Instruction sets that matter to int8 kernels, e.g. ("avx2", "avx512f", "avx512_vnni")."""
    cores: int
    threads: int
    load: float
    system: str
    onnxruntime: str
    quota: float | None = None
    """The cores' worth of time a container may use; None without a limit."""
    governor: str | None = None
    """How the CPU's clock is governed, where the system tells."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Everything one command has to say about one candidate."""

    command: str
    input: str
    output: str | None
    size_bytes: Change[int]
    params: Change[int]
    macs: Change[int]
    machine: Machine
    latency_ms: Latency | None = None
    accuracy: Accuracy | None = None
    nodes: tuple[NodeDecision, ...] = ()
    frozen: tuple[FrozenAxis, ...] = ()
    gates: tuple[GateResult, ...] = ()
    steps: tuple[str, ...] = ()
    """What was done, in order, one line each."""
    warnings: tuple[str, ...] = ()
    throughput: Change[float] | None = None
    """Samples a second, with as many callers and as large batches as were asked for."""
    memory_bytes: Change[int] | None = None
    """The most that loading and running the model adds to a fresh process."""
    load_ms: Change[float] | None = None
    """Time to load the model in a fresh process, the file being in the system's cache."""
    first_run_ms: Change[float] | None = None
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Command-specific figures (plain JSON types)."""


def to_json(record: Any) -> Any:
    """A record as plain JSON types; NaN and infinities, which JSON cannot hold, become None."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        plain = {f.name: to_json(getattr(record, f.name)) for f in dataclasses.fields(record)}
        return {"schema_version": SCHEMA_VERSION, **plain} if isinstance(record, Result) else plain
    if isinstance(record, dict):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [to_json(value) for value in record]
    if isinstance(record, float) and not math.isfinite(record):
        return None
    return record
