"""Commands of indexing, one file a verb: Config, run and EXAMPLES; tfcovr.py parses."""

__all__: list[str] = []
