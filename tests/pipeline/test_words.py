"""Repairs are told by the figure that they were judged by."""

from __future__ import annotations

import dataclasses

from optimizer.pipeline.quantize_words import compared
from optimizer.report.records import Accuracy

ONE = Accuracy("agreement", 1.0, 0.5, 0.5, 0.5, 20.0, 0.9, 0.1, 10, False)


def test_quantities_are_compared_by_decibels_and_ids_by_agreement() -> None:
    other = dataclasses.replace(ONE, agreement=0.75, sqnr_db=25.0)
    assert compared(ONE, other) == "SQNR 20.0 dB without, 25.0 dB with it"
    ids = [dataclasses.replace(each, quantities=False) for each in (ONE, other)]
    assert compared(*ids) == "agreement 0.5000 without, 0.7500 with it"
