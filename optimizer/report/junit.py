"""Results as JUnit XML, which CI systems show as tests: one suite a result, one test case a gate.

A missed gate is a failure. One that could not be decided is a failure of type `inconclusive`, or skipped where the
user asked that it pass. The measurement itself is a test case too, with the table as its output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from optimizer.report import rows
from optimizer.report.records import GateResult, Result

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (section 2.2) has no way to write."""


def junit(results: Sequence[Result]) -> str:
    """The document of one or more results."""
    root = ElementTree.Element("testsuites")
    for result in results:
        root.append(_suite(result))
    for key in ("tests", "failures", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(result: Result) -> ElementTree.Element:
    name = f"optimize {result.command}: {result.output or result.input}"
    suite = ElementTree.Element("testsuite", name=_clean(name))
    cases = [_measurement(result), *(_case(result, gate) for gate in result.gates)]
    suite.extend(cases)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    suite.set("errors", "0")
    return suite


def _measurement(result: Result) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=f"optimize.{result.command}", name="result")
    lines = ["\t".join(row) for row in rows.rows(result)]
    if result.latency_ms is not None:
        lines.append(rows.verdict(result.latency_ms))
    lines += [f"warning: {warning}" for warning in result.warnings]
    output = ElementTree.SubElement(case, "system-out")
    output.text = _clean("\n".join([*lines, rows.machine(result.machine)]))
    return case


def _case(result: Result, gate: GateResult) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=f"optimize.{result.command}", name=_clean(gate.condition))
    if gate.status == "passed":
        return case
    passes = gate.status == "inconclusive" and result.details.get("inconclusive") == "pass"
    kind = "skipped" if passes else "failure"
    found = ElementTree.SubElement(case, kind, message=_clean(gate.message))
    if not passes:
        found.set("type", gate.status)
    return case


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
