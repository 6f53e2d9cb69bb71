"""Commands of indexing, one file a verb."""
