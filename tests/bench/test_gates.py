"""Gates: what can be written, what it means, and how each form comes out."""

from __future__ import annotations

import math

import pytest

from optimizer.bench import gates
from optimizer.bench.gates import Figure, judge, parse
from optimizer.errors import BoundMissed, ConfigError
from optimizer.report.records import Change, GateResult, Machine, Result
from optimizer.runtime.stats import Span


def exact(value: float) -> Span:
    return Span(value, value, value)


@pytest.mark.parametrize(
    ("text", "metric", "bound", "side"),
    [
        ("latency > 1.05x", "latency", 1.05, "ratio"),
        ("latency>5ms", "latency", 5, "after"),
        ("p50 >= 300us", "p50", 0.3, "after"),
        ("p90 > 0.2s", "p90", 200, "after"),
        ("p99 > 10%", "p99", 1.1, "ratio"),
        ("throughput < 100", "throughput", 100, "after"),
        ("throughput < -5%", "throughput", 0.95, "ratio"),
        ("load > 2x", "load", 2, "ratio"),
        ("first_run > 1s", "first_run", 1000, "after"),
        ("size > 10MB", "size", 10e6, "after"),
        ("size > 4096B", "size", 4096, "after"),
        ("memory > 1GiB", "memory", 2**30, "after"),
        ("memory > 1.5x", "memory", 1.5, "ratio"),
        ("params > 1.5M", "params", 1.5e6, "after"),
        ("macs > 0.5x", "macs", 0.5, "ratio"),
        ("accuracy < 90%", "accuracy", 0.9, "after"),
        ("accuracy < 0.99x", "accuracy", 0.99, "ratio"),
        ("drop > 1%", "drop", 0.01, "after"),
        ("drop > 0.01", "drop", 0.01, "after"),
        ("agreement < 99%", "agreement", 0.99, "after"),
        ("cosine <= 0.999", "cosine", 0.999, "after"),
        ("sqnr < 20dB", "sqnr", 20, "after"),
        ("sqnr < 20", "sqnr", 20, "after"),
        ("max_error > 1e-3", "max_error", 0.001, "after"),
    ],
)
def test_every_form_of_gate_is_understood(text: str, metric: str, bound: float, side: str) -> None:
    gate = parse(text)
    assert (gate.metric, gate.side) == (metric, side)
    assert gate.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency", "is no gate; write METRIC OP VALUE"),
        ("latency > fast", "is no gate"),
        ("latency > 1.05x and size > 1MB", "is no gate"),
        ("latency == 1x", "is no gate"),
        ("", "is no gate"),
        ("speed > 1x", "no metric 'speed'; there are latency, p50"),
        ("latency > 5", "the unit of latency must be one of s, ms, us, x, %"),
        ("latency > 5MB", "must be one of s, ms, us"),
        ("drop > 1.1x", "the unit of drop must be one of none, %"),
        ("sqnr < 3%", "must be one of none, dB"),
        ("throughput > 5ms", "must be one of none, x, %"),
    ],
)
def test_a_bad_gate_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("span", "status"),
    [(Span(1.0, 0.98, 1.02), "passed"), (Span(1.1, 1.06, 1.12), "missed"), (Span(1.04, 1.0, 1.08), "inconclusive")],
)
def test_a_gate_is_decided_only_where_the_whole_interval_decides_it(span: Span, status: str) -> None:
    found = judge(parse("latency > 1.05x"), {"latency": Figure(ratio=span)})
    assert found.status == status
    assert found.condition == "latency > 1.05x"


def test_the_bound_itself_passes_above_and_fails_at_or_above() -> None:
    figures = {"size": Figure(after=exact(10e6))}
    assert judge(parse("size > 10MB"), figures).status == "passed"
    assert judge(parse("size >= 10MB"), figures).status == "missed"
    assert judge(parse("size <= 10MB"), figures).status == "missed"
    assert judge(parse("size < 10MB"), figures).status == "passed"


def test_messages_say_what_was_found_and_what_would_do() -> None:
    figures = {"p99": Figure(after=Span(5.2, 4.8, 5.6)), "drop": Figure(after=exact(0.02))}
    found = judge(parse("p99 > 5ms"), figures).message
    assert found.startswith("p99 is 5.200 ms, between 4.800 ms and 5.600 ms: the gate's 5.000 ms lies inside")
    assert "--time-budget" in found
    assert judge(parse("drop > 1%"), figures).message == "drop is 2.00%, and the gate fails at > 1.00%"


def test_an_infinite_end_is_inside_nothing() -> None:
    found = judge(parse("latency > 1.05x"), {"latency": Figure(ratio=Span(1.0, 0.0, math.inf))})
    assert found.status == "inconclusive"


@pytest.mark.parametrize("text", ["accuracy < 1x", "drop > 1%", "latency > 1x"])
def test_a_gate_on_what_was_not_measured_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        judge(parse(text), {"accuracy": Figure(after=exact(1))})


def result(*statuses: str, output: str = "b.onnx") -> Result:
    machine = Machine("cpu", (), 1, 1, 0.0, "Linux", "1.0")
    outcomes = tuple(GateResult(f"gate{i}", status, "because") for i, status in enumerate(statuses))
    return Result("bench", "a.onnx", output, Change(1, 1), Change(1, 1), Change(1, 1), machine, gates=outcomes)


def test_a_missed_gate_is_named() -> None:
    with pytest.raises(BoundMissed, match=r"^gate missed: gate1: because$"):
        gates.enforce([result("passed", "missed")], "pass")


def test_an_undecided_gate_fails_or_passes_as_asked() -> None:
    gates.enforce([result("passed", "inconclusive")], "pass")
    with pytest.raises(BoundMissed, match="gate inconclusive: gate1"):
        gates.enforce([result("passed", "inconclusive")], "fail")


def test_of_several_candidates_the_one_that_missed_is_named() -> None:
    with pytest.raises(BoundMissed, match=r"^c\.onnx: gate missed"):
        gates.enforce([result("passed"), result("missed", output="c.onnx")], "fail")
