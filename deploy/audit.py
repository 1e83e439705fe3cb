"""Ask the advisories about every pinned package: `make audit`.

pip-audit does the asking. A known vulnerability fails; that nobody could be asked is said, and
does not fail: a build without a way to the index would otherwise never pass.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_COMMAND = ("-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json")


class AuditError(Exception):
    """The advisories could not be asked; the message says why."""


def audit(requirements: Path) -> list[dict[str, Any]]:
    """Ask about the packages of a compiled file, with their hashes.

    Returns:
        Each package: name, and either vulns, or skip_reason where nothing is known of it.

    Raises:
        AuditError: there was no answer.
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
    """Print what is known of a file's packages; returns whether none is known to be vulnerable."""
    checked = [package for package in packages if "skip_reason" not in package]
    vulnerable = [package for package in checked if package["vulns"]]
    for package in vulnerable:
        for one in package["vulns"]:
            fixed = ", ".join(one["fix_versions"]) or "no version yet"
            print(f"{name}: {package['name']} {package['version']}: {one['id']}, mended in {fixed}")
    unchecked = len(packages) - len(checked)
    print(f"{name}: {len(checked)} packages checked, {len(vulnerable)} vulnerable.")
    if unchecked:
        print(f"{name}: NOT CHECKED: {unchecked} packages, of which the index tells nothing.")
    return not vulnerable


def main() -> None:
    """Audit files; the exit status is 1 where something is known to be vulnerable."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirements", nargs="+", type=Path)
    good = True
    for file in parser.parse_args().requirements:
        try:
            good &= report(file.name, audit(file))
        except AuditError as error:
            print(f"{file.name}: NOT CHECKED: the advisories could not be asked ({error}).")
    sys.exit(not good)


if __name__ == "__main__":
    main()
