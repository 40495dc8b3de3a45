"""Recipes survive being written and read; what is not one is refused in one line that names the remedy."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.errors import ConfigError
from optimizer.recipe import GRANULARITIES, Bench, Finetune, Preprocess, Prune, Quantize, Run, parse, table, text

TEXT = st.text(st.characters(codec="utf-8"))
PATHS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1).map(Path)
SHARE = st.floats(0.02, 0.8)
OWN: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    Quantize: {"max_drop": st.none() | SHARE},
    Prune: {
        "sparsity": st.just(0.5), "macs": st.none(), "latency": st.none(), "align": st.none() | st.integers(1, 64),
        "granularity": st.lists(st.sampled_from(GRANULARITIES), min_size=1).map(tuple), "max_drop": st.none() | SHARE,
        "pattern": st.none(), "structured": st.just(True),
    },
    Finetune: {
        "epochs": st.none() | st.integers(1, 99), "minutes": st.none() | st.floats(0.1, 1e3), "lr": st.none() | SHARE,
        "batch": st.integers(1, 1000), "patience": st.integers(1, 99), "temperature": st.floats(0.1, 100),
        **dict.fromkeys(("warmup", "clip", "weight_decay", "ema", "holdout", "labels", "features"), SHARE),
    },
    Bench: {
        "runs": st.none() | st.integers(1, 99), "time_budget": st.floats(0.1, 1e4),
        "batch": st.integers(1, 64), "concurrency": st.integers(1, 64),
    },
}  # fmt: skip
KINDS = {str: TEXT, bool: st.booleans(), Path: PATHS, int: st.integers(1, 64), float: SHARE}
NEEDED = {Prune: {"sparsity"}}


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field by its type; what is bounded has a strategy of its own above."""
    arguments = typing.get_args(hint)
    if type(None) in arguments:
        return st.none() | of(arguments[0])
    if typing.get_origin(hint) is tuple:
        return st.lists(of(arguments[0]), max_size=3).map(tuple)
    return st.sampled_from(arguments) if typing.get_origin(hint) is typing.Literal else KINDS[hint]


def steps(kind: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    own = OWN[kind]
    fields = {f.name: own[f.name] if f.name in own else of(hints[f.name]) for f in dataclasses.fields(kind)}
    needed = {name: fields.pop(name) for name in NEEDED.get(kind, ())}
    return (
        st.fixed_dictionaries(needed, optional=fields)
        .filter(lambda values: makes_sense(kind, values))
        .map(lambda values: kind(**values))
    )


def makes_sense(kind: type, values: dict[str, Any]) -> bool:
    """Whether the fields agree with each other."""
    try:
        kind(**values)
    except ConfigError:
        return False
    return True


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(st.lists(st.one_of(*map(steps, OWN)), max_size=3).map(tuple))
def test_a_recipe_that_was_written_is_read_again(recipe: Any) -> None:
    assert parse(text(recipe)) == recipe


def test_what_all_commands_have_in_common_is_read_again() -> None:
    run = Run(data="a.npz", samples=3, dims=(("batch size", 8), ("N", 2)), images=Preprocess(size=(8, 9), mean=(0.5,)))
    assert table.record(Run, table.plain(run), "it") == run


def test_a_recipe_reads_as_on_the_command_line() -> None:
    recipe = parse(
        '[[steps]]\ndo = "prune"\nmacs = "50%"\nmax_drop = 0.01\n[[steps]]\ndo = "bench"\nfail-if = ["p50 > 1ms"]'
    )
    assert recipe == (Prune(macs=0.5, max_drop=0.01), Bench(fail_if=("p50 > 1ms",)))


def test_only_what_differs_from_the_default_is_written() -> None:
    assert text((Quantize(max_drop=0.01, measure=False),)) == (
        '[[steps]]\ndo = "quantize"\nmax-drop = 0.01\nmeasure = false\n'
    )


WRONG = {
    "no TOML": ("steps = ", "not TOML"),
    "an unknown table": ("[[stepz]]\ndo = 'bench'", "unknown key 'stepz'; the nearest there is 'steps'"),
    "no array of tables": ("[steps]\ndo = 'bench'", r"each under a \[\[steps\]\] of its own"),
    "a list of numbers": ("steps = [1]", r"each under a \[\[steps\]\] of its own"),
    "no verb": ("[[steps]]\nmacs = 0.5", "step 1 has no 'do'; give do = one of quantize, prune, finetune, bench"),
    "an unknown verb": ("[[steps]]\ndo = 'squash'", "step 1 does 'squash', which is no step"),
    "an unknown key": ("[[steps]]\ndo = 'prune'\nsparsty = 0.5",
                       r"step 1 \(prune\): unknown key 'sparsty'; the nearest there is 'sparsity'"),
    "a key twice": ("[[steps]]\ndo = 'quantize'\nmax-drop = 0.5\nmax_drop = 0.5", "keep one"),
    "a text for a number": ("[[steps]]\ndo = 'quantize'\nmax-drop = 'little'", "max-drop must be a number or a share"),
    "not a number": ("[[steps]]\ndo = 'quantize'\nmax-drop = nan", "max-drop must be a number or a share"),
    "true for a number": ("[[steps]]\ndo = 'finetune'\nepochs = true", "epochs must be a whole number, not True"),
    "a fraction for a count": ("[[steps]]\ndo = 'finetune'\nepochs = 1.5", "epochs must be a whole number, not 1.5"),
    "a number for a switch": ("[[steps]]\ndo = 'quantize'\ninputs = 1", "inputs must be true or false, not 1"),
    "a text for an array": ("[[steps]]\ndo = 'quantize'\nonly = 'a'", "only must be an array, not 'a'"),
    "a choice that is none": ("[[steps]]\ndo = 'quantize'\nmode = 'loud'", "give one of auto, static, dynamic,"),
    "a value out of bounds": ("[[steps]]\ndo = 'bench'\n[[steps]]\ndo = 'quantize'\nmax-drop = '120%'",
                              r"step 2 \(quantize\): --max-drop must lie between 0% and 100%"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_recipe_is_refused_in_one_line(kind: str) -> None:
    source, told = WRONG[kind]
    with pytest.raises(ConfigError, match=told) as found:
        parse(source)
    assert len(str(found.value).splitlines()) == 1
