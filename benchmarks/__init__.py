"""Benchmarks and their records, the demo, and the rendered dive archive."""
