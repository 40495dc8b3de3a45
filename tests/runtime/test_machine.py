"""What the machine is, on this one and on texts of others."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from optimizer.runtime import machine

ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd asimddp i8mm\n\nprocessor\t: 1\nFeatures\t: fp\n"


def test_the_first_processor_of_a_list_counts() -> None:
    assert machine.cpuinfo(ARM)["Features"] == "fp asimd asimddp i8mm"


def test_a_machine_describes_itself() -> None:
    found = machine.describe(threads=3)
    assert found.threads == 3
    assert found.cores >= 1
    assert found.cpu
    assert set(found.isa) <= set(machine.ISA_OF_INTEREST)
    assert all(dataclasses.asdict(found)[field] for field in ("system", "onnxruntime"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
@pytest.mark.parametrize(
    ("text", "isa", "vnni"),
    [
        ("flags : sse avx2 fma", ("avx2",), False),
        ("flags : avx2 avx512f avx512_vnni", ("avx2", "avx512f", "avx512_vnni"), True),
        ("flags : avx2 avx_vnni", ("avx2", "avx_vnni"), True),
        ("flags : avx2 amx_int8", ("avx2", "amx_int8"), True),
        (ARM, ("asimd", "asimddp", "i8mm"), True),
        ("", (), False),
    ],
)
def test_instruction_sets_are_read_from_cpuinfo(
    text: str, isa: tuple[str, ...], vnni: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_text", lambda path: text)
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64" if text == ARM else "x86_64")
    machine.instruction_sets.cache_clear()
    assert machine.instruction_sets() == isa
    assert machine.has_vnni() == vnni
    machine.instruction_sets.cache_clear()


@pytest.mark.parametrize(("text", "cores"), [("150000 100000", 1.5), ("max 100000", None), ("", None)])
def test_a_container_quota_is_in_cores(text: str, cores: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_text", lambda path: text if path.endswith("cpu.max") else "")
    assert machine.cpu_quota() == cores


def test_a_model_rounded_for_vnni_is_doubted_only_where_sums_may_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = {machine.TARGET_KEY: machine.WITHOUT_SATURATION}
    monkeypatch.setattr(machine, "has_vnni", lambda: False)
    assert "may overflow" in (machine.unsuited(exact) or "")
    assert machine.unsuited({machine.TARGET_KEY: machine.ANY}) is None
    assert machine.unsuited({}) is None
    monkeypatch.setattr(machine, "has_vnni", lambda: True)
    assert machine.unsuited(exact) is None
