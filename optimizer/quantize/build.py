"""Static quantization of one model: statistics once, then as many candidates from them as placement asks for."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import onnx_ir as ir

from optimizer.errors import ConfigError
from optimizer.model.ports import Feed
from optimizer.quantize import (
    audit,
    blockwise,
    costs,
    emit,
    equalize,
    groups,
    half,
    kernels,
    placement,
    ports,
    priors,
    recover,
    recurrent,
    select,
    shift,
    static,
    statistics,
    storage,
    verify,
    weights,
)
from optimizer.quantize.candidate import Candidate
from optimizer.quantize.groups import Group
from optimizer.quantize.head import Head
from optimizer.quantize.plan import Plan
from optimizer.quantize.qparams import QParams
from optimizer.quantize.remembered import Remembered
from optimizer.quantize.statistics import Statistics
from optimizer.recipe import Quantize
from optimizer.report.records import NodeDecision
from optimizer.runtime import machine

_DEARER = "in int8 it would cost more than it saves, its borders included"
_NO_MATRIX = "not a product by a constant matrix: no dynamic kernel"
_DYNAMIC = "dynamic"
_HALF = "weights as float16"
_ELSEWHERE = "the recipe does not place it"
_ROUNDS = 6
_RECOVERY_SAMPLES, _SHIFT_SAMPLES, _EQUALIZED_SAMPLES = 48, 16, 192
_PROFILED = 8
Held: TypeAlias = Mapping[str, str]
_NONE: Held = types.MappingProxyType({})


class Static:
    """Builds int8 candidates of one cleaned float model. `feeds()` yields the calibration samples, each time anew;
    where they are `synthetic`, what training has left in the model is believed as well. `heads` are inputs whose
    parameters are known already."""

    def __init__(
        self,
        model: ir.Model,
        feeds: Callable[[], Iterable[Feed]],
        step: Quantize,
        *,
        heads: Mapping[str, Head] | None = None,
        synthetic: bool = False,
        threads: int = 1,
        tick: Callable[[], None] = lambda: None,
        remembered: Remembered | None = None,
    ) -> None:
        self.model, self.feeds, self.step, self.threads = model, feeds, step, threads
        found, self.kept_out = select.selected(groups.partition(model), step, model)
        self.inputs = ports.real(list(model.graph.inputs)) if step.inputs else ()
        self.outputs = ports.real(list(model.graph.outputs)) if step.outputs else ()
        also = (*self.inputs, *self.outputs)
        self.statistics: Statistics = (remembered or Remembered()).statistics(
            lambda: statistics.gather(model, found.groups, feeds(), also=also, threads=threads, tick=tick)
        )
        self.heads = heads or {}
        self.statistics.know({name: head.params for name, head in self.heads.items()})
        if synthetic:
            priors.believe(self.statistics, found.groups, model)
        self.partition = select.finite(found, self.statistics)
        self.unwanted = select.unwanted(model, step)
        self.vnni = machine.has_vnni() if step.target == "auto" else step.target in ("vnni", "arm64")

    @functools.cached_property
    def whole(self) -> Candidate:
        """All groups in int8."""
        return self.everything()

    def everything(self, held: Held = _NONE, plain: Collection[str] = ()) -> Candidate:
        """All groups in int8, but for those in `held`, which stay in float for the reason given; weights of groups in
        `plain` are not int8 in the file either."""
        chosen = [group for group in self.partition.groups if group.name not in held]
        return self.candidate("everything", chosen, held, plain=plain)

    def placed(self, name: str, found: placement.Costs, held: Held = _NONE, plain: Collection[str] = ()) -> Candidate:
        """`everything` in the cheapest set of groups by the costs `found`."""
        known = [group for group in self.partition.groups if group.name in found.groups and group.name not in held]
        chosen = placement.choose(self.model, known, self._bytes_first(found), self.inputs)
        kept = [group for group in known if group.name in chosen]
        if len(kept) == len(self.partition.groups) and not held:
            return dataclasses.replace(self.whole, name=name)
        reasons = {group.name: verify.REASON.format(group.op) for group in self.partition.groups}
        return self.candidate(name, kept, {**reasons, **{group.name: _DEARER for group in known}, **held}, plain=plain)

    def as_placed(self) -> Candidate:
        """The groups in int8 that the step names."""
        wanted, plain = set(self.step.placed or ()), set(self.step.plain)
        known = {group.name for group in self.partition.groups}
        if unknown := sorted((wanted | plain) - known):
            raise ConfigError(f"the recipe places {unknown[0]!r}, which is no node here that has an int8 kernel")
        chosen = [group for group in self.partition.groups if group.name in wanted]
        reasons = dict.fromkeys(known, _ELSEWHERE)
        dynamic = [group.name for group in chosen] if self.step.mode == "dynamic" else []
        name = _DYNAMIC if self.step.mode == "dynamic" else "placed by the recipe"
        return self.candidate(name, chosen, reasons, dynamic, plain)

    def _bytes_first(self, found: placement.Costs) -> placement.Costs:
        """`found`, with what reads a uint8 input bound to be int8."""
        readers = {group.name for group in self.partition.groups if set(group.inputs) & set(self.inputs)}
        costs = {name: (math.inf, cost[1]) if name in readers else cost for name, cost in found.groups.items()}
        return dataclasses.replace(found, groups=costs)

    def dynamic(self, held: Held = _NONE, plain: Collection[str] = ()) -> Candidate:
        """Every MatMul, Gemm and LSTM by constants in dynamic form, but for groups in `held`; all else in float."""
        able = [group for group in self.partition.groups if group.weight is not None and group.rule.float_output]
        chosen = [group for group in able if group.name not in held]
        reasons = {group.name: _NO_MATRIX for group in self.partition.groups}
        return self.candidate(_DYNAMIC, chosen, {**reasons, **held}, [group.name for group in chosen], plain)

    def shifted(self, candidate: Candidate) -> Candidate:
        """`candidate` with biases that take back what rounding the inputs of layers shifts."""
        assert candidate.plan is not None
        feeds = itertools.islice(self.feeds(), _SHIFT_SAMPLES)
        return self._replanned(candidate, shift.corrected(self.model, candidate.plan, feeds, threads=self.threads))

    def recovered(self, candidate: Candidate) -> Candidate:
        """`candidate` with its weights rounded by second order."""
        assert candidate.plan is not None
        plan = recover.second_order(
            self.model,
            candidate.plan,
            self.statistics,
            lambda: itertools.islice(self.feeds(), _RECOVERY_SAMPLES),
            min(self.statistics.samples, _RECOVERY_SAMPLES),
            saturates=not self.vnni,
            per_tensor=self.step.per_tensor,
            threads=self.threads,
        )
        return self._replanned(candidate, plan)

    def _replanned(self, candidate: Candidate, plan: Plan) -> Candidate:
        """`candidate` with the weights of `plan`."""
        reasons, model = {node.name: node.reason for node in candidate.nodes}, emit.emit(self.model, plan)
        return self._finished(dataclasses.replace(candidate, plan=plan, model=model), reasons, candidate.plain)

    def audit(self, candidate: Candidate) -> dict[str, Any]:
        """What `candidate` cuts off."""
        return {} if candidate.plan is None else audit.audit(self.model, candidate.plan, self.statistics)

    def equalized(self) -> tuple[int, ir.Model, Statistics] | None:
        """How many values are worth scaling by channels, the model with that done, and what calibration sees of it;
        None where there are none."""
        sizes = equalize.shapes(self.model, next(iter(self.feeds())), self.threads)
        outputs = {group.name: group.output for group in self.partition.groups if group.weight is not None}
        found = equalize.scalings(self.model, self.statistics.channels, sizes, outputs)
        if not found:
            return None
        model, feeds = equalize.apply(self.model, found), itertools.islice(self.feeds(), _EQUALIZED_SAMPLES)
        groups = self.partition.groups
        return len(found), model, equalize.observed(model, found, self.statistics, groups, feeds, self.threads)

    def alone(self, names: Collection[str], candidate: Candidate) -> ir.Model:
        """The float model with only the groups `names` of `candidate` in int8."""
        assert candidate.plan is not None
        return emit.emit(self.model, candidate.plan.only(set(names)))

    def stored(self, blocks: tuple[int, int] | None = None) -> Candidate:
        """Nothing in int8 but how weights are kept, those of products in blocks of so many bits and inputs if given."""
        name = "weights only" if blocks is None else "{}-bit weights in blocks of {}".format(*blocks)
        reasons = {group.name: "mode weights" for group in self.partition.groups}
        return self.candidate(name, (), reasons, blocks=blocks)

    def halved(self) -> Candidate:
        """Nothing in int8, and weights kept as float16."""
        plan = static.plan(self.model, (), self.statistics, exact=self.inputs)
        reasons = {group.name: _HALF for group in self.partition.groups}
        return self._finished(Candidate(_HALF, emit.emit(self.model, plan), (), plan, half=True), reasons, ())

    def table_costs(self) -> placement.Costs:
        """Costs by the table alone, the same on every machine of the target."""
        return costs.modelled(self.model, self.partition.groups, self.statistics.shapes, vnni=self.vnni)

    def measured_costs(self, everything: Candidate, feeds: Sequence[Feed]) -> placement.Costs:
        """Costs as this machine shows them."""
        chosen = everything.plan.groups if everything.plan is not None else ()
        return costs.measured(
            self.model, everything.model, chosen, self.table_costs(), feeds[:_PROFILED], threads=self.threads
        )

    def candidate(
        self,
        name: str,
        chosen: Sequence[Group],
        reasons: Mapping[str, str],
        dynamic: Iterable[str] = (),
        plain: Collection[str] = (),
        blocks: tuple[int, int] | None = None,
    ) -> Candidate:
        """`chosen` in int8, less those that the runtime does not fuse; the weights of groups in `plain` stored as
        float16, all other large ones as int8."""
        how = weights.Settings(self.step.per_tensor, not self.vnni, self.step.recover != "none")
        names = {group.name for group in chosen}.union(plain)
        stored = [g for g in self.partition.groups if g.name not in names and not (blocks and g.rule.float_output)]
        method = self.step.calibration
        plan = static.plan(self.model, chosen, self.statistics, method, how, dynamic, stored, self.inputs)
        reasons, model = dict(reasons), emit.emit(self.model, plan)
        for _ in range(_ROUNDS):
            missed = verify.unfused(model, plan)
            if not missed:
                break
            reasons |= missed
            plan = plan.without(set(missed))
            model = emit.emit(self.model, plan)
        wanted = tuple(group.name for group in chosen)
        return self._finished(Candidate(name, model, (), plan, chosen=wanted, blocks=blocks), reasons, plain)

    def _finished(self, candidate: Candidate, reasons: Mapping[str, str], plain: Collection[str]) -> Candidate:
        """`candidate`, whose model was just emitted, with its other weights stored and its nodes accounted for."""
        assert candidate.plan is not None
        model = candidate.model
        kernels.keep_apart(model)
        leave = {group.weight or "" for group in self.partition.groups if group.name in plain}
        ranged = self._recurrent(model, leave) if candidate.name == _DYNAMIC else set()
        turned = blockwise.store(model, *candidate.blocks, leave | self.unwanted) if candidate.blocks else set()
        reasons = {**reasons, **dict.fromkeys(ranged, "LSTM kernel")}
        reasons |= dict.fromkeys(turned, f"{candidate.name}, multiplied as they are")
        if candidate.half:
            stored = half.narrow(model, leave=leave | self.unwanted, exact=False)
        else:
            stored = turned | storage.store(model, leave | self.unwanted, self.step.per_tensor)
            half.narrow(model, only=leave - self.unwanted, exact=False)
        stored |= {group.name for group in candidate.plan.stored if self._storable(candidate.plan, group)}
        model.metadata_props[machine.TARGET_KEY] = machine.WITHOUT_SATURATION if self.vnni else machine.ANY
        ports.convert(
            model, self._params(self.inputs, candidate.plan), self._params(self.outputs, candidate.plan), self.heads
        )
        return dataclasses.replace(
            candidate,
            model=model,
            nodes=self.decisions(candidate.plan, reasons, stored, ranged),
            plain=frozenset(plain),
        )

    def _recurrent(self, model: ir.Model, leave: Collection[str]) -> set[str]:
        every = {*leave, *self.unwanted}
        return recurrent.turn(model, every, saturates=not self.vnni, per_tensor=self.step.per_tensor)

    def _params(self, names: Iterable[str], plan: Plan) -> dict[str, QParams]:
        """The parameters of graph inputs and outputs, their whole range where the plan has none."""
        return {name: plan.activations.get(name) or self.statistics.params(name, "minmax") for name in names}

    def _storable(self, plan: Plan, group: Group) -> bool:
        return plan.weights[group.name].values.size >= storage.SMALLEST

    def decisions(
        self, plan: Plan, reasons: Mapping[str, str], stored: set[str], ranged: set[str]
    ) -> tuple[NodeDecision, ...]:
        """One record per node of the float model, subgraphs included, in its order."""
        group_of = {node: group for group in self.partition.groups for node in group.nodes}
        in_int8 = {group.name for group in plan.groups}
        found = []
        for node in ir.traversal.RecursiveGraphIterator(self.model.graph):
            name, group = node.name or "", group_of.get(node.name or "")
            if group is not None and group.name in in_int8:
                action = "dynamic" if group.name in plan.dynamic else "int8"
                reason = f"{group.op} kernel" if name == group.name else f"part of {group.name}"
            else:
                action = "dynamic" if name in ranged else "weights" if name in stored else "float"
                why = self.partition.floats.get(name) or self.kept_out.get(name) or _FOREIGN
                reason = reasons.get(group.name if group is not None else name, why)
            found.append(NodeDecision(name, node.op_type, action, reason))
        return tuple(found)


_FOREIGN = "inside a subgraph, whose values are not calibrated"
