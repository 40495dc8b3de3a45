"""Benchmarks whose verdict can be trusted: paired measurement in fresh processes, gates, attribution."""
