"""The measuring room: the rendered dive archive, the demo, benchmarks and their records."""
