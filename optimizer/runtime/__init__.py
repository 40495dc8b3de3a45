"""Everything that runs a model: sessions, paired timing, profiles, the runtime's own optimized graph.

The only package that imports onnxruntime, and it does so through `engine`, which turns telemetry off first.
"""
