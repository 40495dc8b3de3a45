"""The main property: on any graph, for any choice the algebra allows, the removed and the masked model agree."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.ops.axes import RULES
from optimizer.prune.groups import analyse
from tests.ops.examples import EXAMPLES, Example
from tests.prune.equality import compare
from tests.prune.random_graphs import OPSET, RECIPES, Recipe, graph

GRAPHS, BATCHES = 304, 16


def example_of(seed: int) -> Example:
    """Every row of the rule table in turn."""
    modern = [example for example in EXAMPLES if example.until >= OPSET]
    return modern[seed % len(modern)]


def test_the_graphs_draw_every_row_of_the_rule_table() -> None:
    drawn = {(example.domain, example.op) for example in map(example_of, range(GRAPHS))}
    assert drawn >= set(RULES)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_removed_and_masked_random_graphs_agree(batch: int) -> None:
    gone = []
    for seed in range(batch, GRAPHS, BATCHES):
        model = graph(seed, steps=4, row=example_of(seed))
        outcome = compare(model, share=float(np.random.default_rng(seed).choice([0.3, 0.5, 0.7])), seed=seed)
        assert outcome.difference < 1e-4, f"seed {seed}"
        gone.append(outcome.share)
    assert np.mean(gone) > 0.2


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
def test_every_recipe_writes_a_graph_of_which_something_can_go(recipe: Recipe) -> None:
    model = graph(1, steps=2, recipes=[recipe])
    assert any(len(group.labels) > 1 for group in analyse(model).groups)
