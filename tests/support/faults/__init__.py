"""Seeded faults of indexing runs and damaged files; `make test-long` runs many of them."""
