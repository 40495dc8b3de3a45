"""Minimum s-t cut (Dinic's algorithm), for placement: a few thousand vertices, real capacities."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable

_EPSILON = 1e-9


class Network:
    """A directed graph with capacities; vertices are any hashable labels."""

    def __init__(self) -> None:
        self.index: dict[Hashable, int] = {}
        self.edges: list[list[int]] = []
        self.head: list[int] = []
        self.room: list[float] = []

    def add(self, tail: Hashable, head: Hashable, capacity: float) -> None:
        """Let `capacity` flow from `tail` to `head`; several edges between the same two add up."""
        if capacity <= 0:
            return
        a, b = self._vertex(tail), self._vertex(head)
        for start, end, room in ((a, b, capacity), (b, a, 0.0)):
            self.edges[start].append(len(self.head))
            self.head.append(end)
            self.room.append(room)

    def source_side(self, source: Hashable, sink: Hashable) -> set[Hashable]:
        """The vertices on the source's side of a minimum cut."""
        s, t = self._vertex(source), self._vertex(sink)
        while (level := self._levels(s))[t] >= 0:
            self._block(s, t, level)
        return {label for label, vertex in self.index.items() if level[vertex] >= 0}

    def _vertex(self, label: Hashable) -> int:
        if label not in self.index:
            self.index[label] = len(self.edges)
            self.edges.append([])
        return self.index[label]

    def _levels(self, source: int) -> list[int]:
        level = [-1] * len(self.edges)
        level[source], queue = 0, deque([source])
        while queue:
            vertex = queue.popleft()
            for edge in self.edges[vertex]:
                if self.room[edge] > _EPSILON and level[self.head[edge]] < 0:
                    level[self.head[edge]] = level[vertex] + 1
                    queue.append(self.head[edge])
        return level

    def _block(self, source: int, sink: int, level: list[int]) -> None:
        """Saturate every shortest path: walk forward along levels, step back at dead ends."""
        following = [0] * len(self.edges)
        path: list[int] = []
        vertex = source
        while True:
            if vertex == sink:
                vertex = self._push(path, source)
                continue
            edge = self._open_edge(vertex, following, level)
            if edge is not None:
                path.append(edge)
                vertex = self.head[edge]
            elif not path:
                return
            else:
                vertex = self.head[path.pop() ^ 1]
                following[vertex] += 1

    def _open_edge(self, vertex: int, following: list[int], level: list[int]) -> int | None:
        edges = self.edges[vertex]
        while following[vertex] < len(edges):
            edge = edges[following[vertex]]
            if self.room[edge] > _EPSILON and level[self.head[edge]] == level[vertex] + 1:
                return edge
            following[vertex] += 1
        return None

    def _push(self, path: list[int], source: int) -> int:
        """Send as much as fits along `path`; cut it back to before its first full edge and return where that is."""
        amount = min((self.room[edge] for edge in path), default=math.inf)
        for edge in path:
            self.room[edge] -= amount
            self.room[edge ^ 1] += amount
        full = next(i for i, edge in enumerate(path) if self.room[edge] <= _EPSILON)
        vertex = self.head[path[full] ^ 1]
        del path[full:]
        return vertex
