"""Every exporter: what it says, and that nothing a model is called becomes markup."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from optimizer.errors import ConfigError, MissingExtra, OutputError
from optimizer.report import rows, why, write
from optimizer.report.document import document
from optimizer.report.html import html
from optimizer.report.junit import junit
from optimizer.report.markdown import markdown
from optimizer.report.records import Result
from optimizer.report.schema import schema
from tests.report.results import bare, full, slower
from tests.report.schema import violations

SCHEMA = Path(__file__).parent.parent.parent / "optimizer" / "report" / "schema.json"


def test_the_table_reads_like_this() -> None:
    assert [tuple(row) for row in rows.rows(full())] == [
        ("latency p50", "10.0 ms", "5.000 ms", "2.00x faster"),
        ("latency p90", "11.0 ms", "5.500 ms", ""),
        ("latency p99", "12.0 ms", "6.000 ms", ""),
        ("throughput", "100.0/s", "200.0/s", "2.00x"),
        ("top1", "0.9000", "0.8900", "-0.0100"),
        ("agreement", "", "0.9700", ""),
        ("SQNR", "", "25.0 dB", "100 samples"),
        ("size", "4.00 MB", "1.00 MB", "0.25x"),
        ("memory", "50.00 MB", "20.00 MB", "0.40x"),
        ("load", "80.0 ms", "120.0 ms", "1.50x"),
        ("first run", "12.0 ms", "7.000 ms", "0.58x"),
        ("parameters", "1.00 M", "1.00 M", "1.00x"),
        ("MACs", "300.00 M", "300.00 M", "1.00x"),
    ]


def test_ids_have_no_decibels() -> None:
    accuracy = full().accuracy
    assert accuracy is not None
    found = dataclasses.replace(full(), accuracy=dataclasses.replace(accuracy, quantities=False))
    assert "SQNR" not in [row.label for row in rows.rows(found)]


def test_verdicts_are_sentences() -> None:
    latency = full().latency_ms
    assert latency is not None
    assert rows.verdict(latency) == "2.00x faster (95% between 1.90x and 2.10x, 500 pairs, noise 1.0%)"
    other = slower().latency_ms
    assert other is not None
    assert rows.verdict(other).startswith("2.00x slower")


def test_what_was_not_measured_has_no_row() -> None:
    assert [row.label for row in rows.rows(bare())] == ["size", "parameters", "MACs"]
    assert why.listings(bare()) == []


@pytest.mark.parametrize("results", [[full()], [bare()], [slower()], [full(), slower()]], ids=len)
def test_the_json_document_is_what_the_schema_says(results: list[Result]) -> None:
    text = json.dumps(document(results), allow_nan=False)
    found = schema()
    assert list(violations(json.loads(text), found, found)) == []


def test_the_schema_refuses_what_is_missing_or_wrong() -> None:
    found, wrong = schema(), document([full()])
    del wrong["size_bytes"]["before"]
    wrong["machine"]["cores"] = "many"
    wrong["schema_version"] = 99
    said = " ".join(violations(wrong, found, found))
    assert "$.size_bytes lacks before" in said
    assert "$.machine.cores is str" in said
    assert "$.schema_version is 99" in said


def test_the_published_schema_is_the_records() -> None:
    """To renew it, write `json.dumps(schema(), indent=2)` to the file."""
    assert json.loads(SCHEMA.read_text()) == schema()


def test_markdown_holds_the_table_the_gates_and_the_warnings() -> None:
    text = markdown([full()])
    assert "| latency p50 | 10.0 ms | 5.000 ms | 2.00x faster |" in text
    assert "❌ missed: `size > 1KB`" in text
    assert "✅ passed: `latency > 1.05x`" in text
    assert "something" in text
    assert "2 thread" in text


def test_tensors_that_int8_cuts_off_much_of_are_listed() -> None:
    tensors = [
        {"tensor": "a", "clipped": 0.25, "range": [-1.0, 1.0], "seen": [-2.5, 1.0]},
        {"tensor": "b", "clipped": 0.0099, "range": [0.0, 1.0], "seen": [0.0, 1.1]},
    ]
    (listing,) = why.listings(bare(details={"saturation": {"tensors": tensors}}))
    assert listing.title.endswith("of 2")
    assert listing.rows == [("a", "25.0%", "-1 .. 1", "-2.5 .. 1")]


def test_markdown_tables_have_as_many_cells_as_columns() -> None:
    lines = markdown([full()]).splitlines()
    for number, line in enumerate(lines):
        if line.startswith("|:--"):
            width = line.count("|")
            body = [re.sub(r"\\.", "", row) for row in (lines[number - 1], *lines[number + 1 :])]
            assert all(row.count("|") == width for row in body[: body.index("")])


@pytest.mark.parametrize("export", [markdown, html, junit])
def test_no_name_becomes_markup(export: object) -> None:
    text = export([full()])  # type: ignore[operator]
    assert "<script>" not in text.replace(r"\<", "")
    assert "alert" in text


def test_junit_has_a_case_for_the_result_and_for_every_gate() -> None:
    root = ElementTree.fromstring(junit([full()]))
    suite = root[0]
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["result", "latency > 1.05x", "size > 1KB", "p99 > 6ms"]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "2", "0")
    assert [failure.get("type") for failure in suite.iter("failure")] == ["missed", "inconclusive"]


def test_junit_skips_an_undecided_gate_that_shall_pass() -> None:
    root = ElementTree.fromstring(junit([full(details={"inconclusive": "pass"}), bare()]))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("5", "1", "1")


def test_junit_survives_what_xml_cannot_write() -> None:
    ElementTree.fromstring(junit([full(output="bad\x00\x1b\ud800name")]))


def test_html_stands_alone() -> None:
    text = html([full(), bare()])
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:,)""", text)
    assert "@import" not in text
    assert text.count("<svg") == 5
    identifiers = re.findall(r'\bid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    assert "prefers-color-scheme: dark" in text


def test_html_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"optimize-onnx\[report\]"):
        html([full()])


def test_reports_are_written_by_suffix(tmp_path: Path) -> None:
    paths = [tmp_path / f"r{suffix}" for suffix in (".json", ".md", ".xml", ".html")]
    write.check(paths)
    write.write([full()], paths)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert json.loads(paths[0].read_text())["schema_version"] == 1


def test_a_report_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in one of \.json, \.md, \.xml, \.html"):
        write.check([tmp_path / "r.pdf"])
    with pytest.raises(OutputError, match="does not exist"):
        write.check([tmp_path / "no" / "r.md"])


def test_a_report_over_a_folder_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.md").mkdir()
    with pytest.raises(OutputError, match="cannot write the report"):
        write.write([full()], [tmp_path / "r.md"])
    assert [path.name for path in tmp_path.iterdir()] == ["r.md"]


def test_the_step_summary_is_appended_to_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(write.SUMMARY, raising=False)
    write.summarize([full()])
    page = tmp_path / "summary.md"
    page.write_text("before\n")
    monkeypatch.setenv(write.SUMMARY, str(page))
    write.summarize([full()])
    assert page.read_text().startswith("before\n### bench")


def test_a_full_step_summary_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "summary.md"
    page.write_text("x" * write.SUMMARY_BYTES)
    monkeypatch.setenv(write.SUMMARY, str(page))
    write.summarize([full()])
    assert page.stat().st_size == write.SUMMARY_BYTES
