"""The main property: on any graph, for any choice the algebra allows, the removed and the masked model agree."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.prune.groups import analyse
from tests.prune.equality import compare
from tests.prune.random_graphs import RECIPES, Recipe, graph

GRAPHS, BATCHES = 304, 16


@pytest.mark.parametrize("batch", range(BATCHES))
def test_removed_and_masked_random_graphs_agree(batch: int) -> None:
    gone = []
    for seed in range(batch, GRAPHS, BATCHES):
        outcome = compare(graph(seed), share=float(np.random.default_rng(seed).choice([0.3, 0.5, 0.7])), seed=seed)
        assert outcome.difference < 1e-4, f"seed {seed}"
        gone.append(outcome.share)
    assert np.mean(gone) > 0.2


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
def test_every_recipe_writes_a_graph_of_which_something_can_go(recipe: Recipe) -> None:
    model = graph(1, steps=2, recipes=[recipe])
    assert any(len(group.labels) > 1 for group in analyse(model).groups)
