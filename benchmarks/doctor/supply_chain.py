"""`make sbom` and `make advisories`: the packages of this environment as a CycloneDX bill of materials, and their known holes.

The advisories are those of https://osv.dev. Where that cannot be reached the check was not run, and it says so with status 3.
"""

import json
import re
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import Any, Literal

import requests

from cluster.storage import write_atomic

_PROGRAM = "tfcovr"
_TIMEOUT_S = 30.0
_PER_REQUEST = 500
NOT_RUN = 3


@dataclass(frozen=True, kw_only=True)
class Config:
    """Write the bill of materials, or ask for advisories on what it lists."""

    do: Literal["sbom", "advisories"]
    out: Path = Path("sbom.cdx.json")
    """File of the bill of materials."""
    database: str = "https://api.osv.dev"
    """Server of advisories with the API of OSV."""


def bill_of_materials() -> dict[str, Any]:
    """CycloneDX 1.6: this program, every installed package with version and license, and who needs whom."""
    # Not all of sys.path: Ray and setuptools add folders of their own copies of packages.
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    packages_here = distributions(path=places)
    installed = {_name(d.metadata["Name"]): d for d in packages_here if d.metadata["Name"]}
    program = installed.pop(_PROGRAM, None) or distribution(_PROGRAM)
    packages = [installed[name] for name in sorted(installed)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _component(program, "application")},
        "components": [_component(package, "library") for package in packages],
        "dependencies": [
            {
                "ref": _purl(package),
                "dependsOn": sorted(
                    _purl(installed[name]) for name in _required(package) if name in installed
                ),
            }
            for package in (program, *packages)
        ],
    }


def find_advisories(purls: Sequence[str], database: str) -> dict[str, list[str]]:
    """purl -> ids of its advisories; requests.RequestException where the database cannot be reached."""
    advisories: dict[str, list[str]] = {}
    for first in range(0, len(purls), _PER_REQUEST):
        part = purls[first : first + _PER_REQUEST]
        queries = [{"package": {"purl": purl}} for purl in part]
        answer = requests.post(
            f"{database}/v1/querybatch", json={"queries": queries}, timeout=_TIMEOUT_S
        )
        answer.raise_for_status()
        for purl, result in zip(part, answer.json()["results"], strict=True):
            if ids := [advisory["id"] for advisory in result.get("vulns", [])]:
                advisories[purl] = ids
    return advisories


def run(config: Config) -> int:
    """Status 1 where a package has an advisory, NOT_RUN where the database cannot be reached."""
    bill = bill_of_materials()
    if config.do == "sbom":
        write_atomic(config.out, json.dumps(bill, indent=1) + "\n")
        sys.stdout.write(f"{config.out}: {len(bill['components'])} packages\n")
        return 0
    purls = [component["purl"] for component in bill["components"]]
    try:
        advisories = find_advisories(purls, config.database)
    except (requests.RequestException, ValueError, KeyError) as error:
        sys.stdout.write(f"not run: {config.database} does not answer ({type(error).__name__})\n")
        return NOT_RUN
    for purl, ids in advisories.items():
        sys.stdout.write(f"{purl}: {', '.join(ids)}\n")
    sys.stdout.write(f"{len(advisories)} of {len(purls)} packages have advisories\n")
    return 1 if advisories else 0


def _component(package: Distribution, kind: str) -> dict[str, Any]:
    metadata = package.metadata
    names = (name for name in ("License-Expression", "License") if name in metadata)
    license_text = next((metadata[name] for name in names), "")
    name = license_text.strip().splitlines()[0][:80] if license_text.strip() else "unknown"
    return {
        "type": kind,
        "bom-ref": _purl(package),
        "name": _name(metadata["Name"]),
        "version": package.version,
        "purl": _purl(package),
        "licenses": [{"license": {"name": name}}],
    }


def _required(package: Distribution) -> set[str]:
    """What a package needs without extras."""
    lines = [line for line in package.requires or [] if "extra ==" not in line]
    return {_name(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in lines}


def _purl(package: Distribution) -> str:
    return f"pkg:pypi/{_name(package.metadata['Name'])}@{package.version}"


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """The command line."""
    import tyro

    return run(tyro.cli(Config, description=__doc__))


if __name__ == "__main__":
    raise SystemExit(main())
