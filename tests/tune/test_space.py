"""The space is data: every set of values is one recipe, every guess lies within it, every row sets a real field."""

from __future__ import annotations

import dataclasses
import random

import pytest

from optimizer import recipe as recipes
from optimizer.recipe import Finetune, Prune, Quantize
from optimizer.tune.guesses import BASE, GUESSES, guesses
from optimizer.tune.space import KINDS, SPACE, STEPS, Choice, Row, Span, Value, ask, recipe, space


def drawn(seed: int, *, train: bool, timed: bool = False) -> dict[str, Value]:
    rng = random.Random(seed)

    def value(row: Row) -> Value:
        if isinstance(row.values, Choice):
            return rng.choice(row.values.values)
        assert isinstance(row.values, Span)
        return rng.uniform(row.values.low, row.values.high)

    return ask(space(train=train, timed=timed), value)


@pytest.mark.parametrize("row", SPACE[1:], ids=lambda row: row.name)
def test_a_row_sets_a_field_of_its_step_and_has_a_usual_value(row: Row) -> None:
    step, _, field = row.name.partition(".")
    assert field in {one.name for one in dataclasses.fields(KINDS[step])}
    assert row.name in BASE


@pytest.mark.parametrize("seed", range(60))
def test_any_values_make_a_recipe_that_survives_being_written(seed: int) -> None:
    steps = recipe(drawn(seed, train=True))
    assert steps
    assert recipes.parse(recipes.text(steps)) == steps


@pytest.mark.parametrize("seed", range(20))
def test_only_the_mode_auto_times_and_only_where_times_count(seed: int) -> None:
    for timed in (False, True):
        for step in recipe(drawn(seed, train=True, timed=timed)):
            assert getattr(step, "measure", False) == (timed and isinstance(step, Quantize) and step.mode == "auto")


@pytest.mark.parametrize("seed", range(20))
def test_without_permission_nothing_trains(seed: int) -> None:
    assert not any(isinstance(step, Finetune) for step in recipe(drawn(seed, train=False)))


def test_a_parameter_of_a_step_that_is_not_there_is_not_asked_for() -> None:
    params = ask(SPACE, lambda row: {STEPS: "prune"}.get(row.name, BASE[row.name]))
    assert {name.partition(".")[0] for name in params} == {STEPS, "prune"}


def test_a_parameter_is_there_only_under_its_condition() -> None:
    params = ask(SPACE, lambda row: {"quantize.mode": "weights"}.get(row.name, BASE[row.name]))
    assert "quantize.calibration" not in params
    assert "quantize.max_drop" not in params


def test_the_first_guess_is_what_quantize_does_and_untimed_where_times_do_not_count() -> None:
    assert recipe(guesses(space(train=False, timed=True))[0]) == (Quantize(),)
    assert recipe(guesses(space(train=False, timed=False))[0]) == (Quantize(mode="static", measure=False),)


def test_there_are_seven_guesses_without_training_and_more_with_it() -> None:
    assert len(guesses(space(train=True, timed=True))) == len(GUESSES)
    kept = [recipe(guess) for guess in guesses(space(train=False, timed=False))]
    assert len(kept) >= 7
    assert len(set(kept)) == len(kept)


def test_texts_with_commas_become_tuples() -> None:
    (step,) = recipe({STEPS: "prune", "prune.macs": 0.5, "prune.granularity": "channel,head,layer"})
    assert step == Prune(macs=0.5, granularity=("channel", "head", "layer"), measure=False)
