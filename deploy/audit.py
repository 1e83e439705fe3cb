"""Checks every pinned package against PyPI's advisories, with pip-audit: `make audit`.

A known vulnerability fails. If the advisories cannot be reached, this says so and does not fail:
otherwise a build without access to the index could never pass.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_COMMAND = ("-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json")


class AuditError(Exception):
    """The advisories could not be reached; the message says why."""


def audit(requirements: Path) -> list[dict[str, Any]]:
    """Check the packages of a compiled requirements file.

    Returns:
        Each package: name, and either vulns, or skip_reason if nothing is known about it.

    Raises:
        AuditError: the advisories could not be reached.
    """
    done = subprocess.run(
        [sys.executable, *_COMMAND, "--progress-spinner", "off", "--requirement", requirements],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
        raise AuditError(lines[-1]) from None
    return found


def report(name: str, packages: list[dict[str, Any]]) -> bool:
    """Print what is known about a file's packages; tell whether none is known to be vulnerable."""
    checked = [package for package in packages if "skip_reason" not in package]
    vulnerable = [package for package in checked if package["vulns"]]
    for package in vulnerable:
        for one in package["vulns"]:
            fixed = ", ".join(one["fix_versions"]) or "no version yet"
            print(f"{name}: {package['name']} {package['version']}: {one['id']}, fixed in {fixed}")
    unchecked = len(packages) - len(checked)
    print(f"{name}: {len(checked)} packages checked, {len(vulnerable)} vulnerable.")
    if unchecked:
        print(f"{name}: NOT CHECKED: {unchecked} packages that the index knows nothing about.")
    return not vulnerable


def main() -> None:
    """Audit files; the exit status is 1 if a package is known to be vulnerable."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirements", nargs="+", type=Path)
    good = True
    for file in parser.parse_args().requirements:
        try:
            good &= report(file.name, audit(file))
        except AuditError as error:
            print(f"{file.name}: NOT CHECKED: the advisories could not be reached ({error}).")
    sys.exit(not good)


if __name__ == "__main__":
    main()
