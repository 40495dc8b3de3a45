"""Unstructured pruning: single weights become zero, and the others make up for them."""
