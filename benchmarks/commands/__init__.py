"""Commands of benchmarks, one file a verb: Config, run and EXAMPLES; tfcovr.py parses."""
