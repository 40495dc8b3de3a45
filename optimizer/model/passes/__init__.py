"""Exact rewrites of a graph, one family per file; `optimizer.model.cleanup` runs them in order.

Each public function changes a model in place and returns how many places it changed.
"""
