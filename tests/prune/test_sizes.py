"""What is left for a choice, counted without carrying it out, is what the carried out choice has."""

from __future__ import annotations

import numpy as np

from optimizer.calibrate import sizes as runs
from optimizer.pipeline.common import name_nodes
from optimizer.prune import remove
from optimizer.prune.groups import analyse
from optimizer.prune.prepare import prepare
from optimizer.prune.sizes import Sizes
from tests.prune.test_groups import model

OPEN = """g (float[n,3,h,w] x, float[16,3,3,3] a, float[32,16,1,1] b, float[8,32,1,1] c) => (float[n,8,i,j] y) {
    p = Conv <pads = [1, 1, 1, 1]> (x, a)  q = Relu (p)
    r = Conv <strides = [4, 4]> (q, b)  s = Relu (r)  y = Conv (s, c) }"""
FEED = {"x": np.ones((1, 3, 32, 24), np.float32)}


def test_macs_of_open_sizes_are_those_of_a_run_for_every_choice() -> None:
    net = prepare(model(OPEN, a=(16, 3, 3, 3), b=(32, 16, 1, 1), c=(8, 32, 1, 1)))
    name_nodes(net)
    axes = analyse(net)
    plain = Sizes(axes)
    sizes = Sizes(axes, plain.times(runs.seen(net, plain.nodes, FEED)))
    true = 32 * 24 * 16 * 27 + 8 * 6 * (32 * 16 + 8 * 32)
    assert sizes.macs == true == runs.count(net, FEED, {"n": 1, "h": 32, "w": 24}).macs
    dropped = axes.none()
    dropped[next(group for group in axes.groups if len(group.labels) == 16).labels[:8]] = True
    left = 32 * 24 * 8 * 27 + 8 * 6 * (32 * 8 + 8 * 32)
    assert sizes.macs_of(dropped) == left
    remove.remove(axes, dropped)
    assert runs.count(net, FEED, {"n": 1, "h": 32, "w": 24}).macs == left
