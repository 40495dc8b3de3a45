"""The names that the package offers, each of them there."""

from __future__ import annotations

import importlib
import inspect

import pytest

import optimizer


def test_the_interface_is_what_the_documentation_names() -> None:
    assert optimizer.__all__ == ["bench", "finetune", "inspect", "load", "prune", "quantize", "save", "tune"]


@pytest.mark.parametrize("name", optimizer.__all__)
def test_every_name_is_a_function_that_says_what_it_does(name: str) -> None:
    found = getattr(optimizer, name)
    assert inspect.isfunction(found)
    assert found.__doc__


def test_a_function_is_not_hidden_by_the_package_of_its_name() -> None:
    importlib.import_module("optimizer.quantize.emit")
    assert inspect.isfunction(optimizer.quantize)
    assert inspect.isfunction(optimizer.quantize), "nor after its own import"


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'squash'"):
        _ = optimizer.squash
