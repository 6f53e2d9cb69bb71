"""tfcovr doctor: what this machine has and lacks."""

from dataclasses import dataclass

EXAMPLES = """
  tfcovr doctor
  tfcovr doctor --json > machine.json
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What this machine has, what is missing, and the line that installs it."""

    json: bool = False
    """Write the findings as JSON."""
    no_codecs: bool = False
    """Do not try the video codecs."""


def run(config: Config) -> int:
    """Exit status 1 only where something that every command needs is missing."""
    from benchmarks.doctor.report import examine, print_report
    from cluster.machine import describe_machine

    findings = examine(describe_machine(), with_codecs=not config.no_codecs)
    return print_report(findings, as_json=config.json)
