"""The front door: `tfcovr <command>`, and the public names for `import tfcovr`; holds no logic."""


def main() -> None:
    """Dispatch one command."""
    raise SystemExit("tfcovr: no command is here yet")
