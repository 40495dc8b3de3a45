"""A quantized model as one of several to choose from."""

from __future__ import annotations

import dataclasses

import onnx_ir as ir

from optimizer.quantize.plan import Plan
from optimizer.recipe import Mode, Quantize
from optimizer.report.records import NodeDecision


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A quantized model, and what became of each node."""

    name: str
    model: ir.Model
    nodes: tuple[NodeDecision, ...]
    plan: Plan | None = None
    plain: frozenset[str] = frozenset()
    """Groups whose weights are kept as float16 in the file."""
    chosen: tuple[str, ...] = ()
    """Groups that were to be int8; the runtime may not fuse all of them."""
    half: bool = False
    """Whether all weights are kept as float16 in the file instead."""
    blocks: tuple[int, int] | None = None
    """Bits and size of the blocks that weights of products are kept and multiplied in."""

    @property
    def changed(self) -> bool:
        """Whether anything at all is quantized."""
        return any(node.action != "float" for node in self.nodes)

    @property
    def only_stored(self) -> bool:
        """Whether int8 is only how weights are kept, and all computing is in float."""
        return all(node.action in ("float", "weights") for node in self.nodes)

    @property
    def in_blocks(self) -> bool:
        """Whether some product is by a weight in blocks."""
        every = ir.traversal.RecursiveGraphIterator(self.model.graph)
        return self.blocks is not None and any(node.op_type == "MatMulNBits" for node in every)

    def decided(self, step: Quantize) -> Quantize:
        """`step`, which left it open what is int8, with that decided: it gives this candidate and times nothing."""
        if self.half:
            return dataclasses.replace(step, mode="half", everywhere=False, measure=False)
        if not self.chosen and not self.plain:
            bits, size = self.blocks or (None, None)
            return dataclasses.replace(
                step, mode="weights", bits=bits, block_size=size, everywhere=False, measure=False
            )
        mode: Mode = "dynamic" if self.plan is not None and self.plan.dynamic else "static"
        plain = tuple(sorted(self.plain))
        return dataclasses.replace(step, mode=mode, everywhere=False, placed=self.chosen, plain=plain, measure=False)
