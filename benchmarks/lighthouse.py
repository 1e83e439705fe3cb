"""Lighthouse on the pages: performance, accessibility, best practices, SEO, each 0 to 100.

    make lighthouse

Needs Node 18 or later with npm, which brings Lighthouse, and Chromium. The pages are served
on this machine and measured twice: as on a phone on a slow network, and as on a desktop. The exit
status is 1 if a figure is below 95.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.servers import run_tumorapp

LIGHTHOUSE = "lighthouse@12"
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
DEVICES = {"phone": "--form-factor=mobile", "desktop": "--preset=desktop"}
PAGES = (
    "/",
    "/?lang=de",
    "/how",
    "/models",
    "/models/lesion-lite0/4",
    "/models/reports/000-mobilenet-v2-own-random-75-25",
    "/api/docs",
)
LOWEST = 95
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 180


def main() -> None:
    """Measure each page, and print a table and what cost points."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", default=PAGES)
    paths = parser.parse_args().paths
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None or shutil.which("npx") is None:
        raise SystemExit("Chromium, or Node with npm, is missing: apt-get install chromium npm")
    print(f"{'page':56}" + "".join(f"{category:>16}" for category in CATEGORIES))
    low = False
    with run_tumorapp() as server, tempfile.TemporaryDirectory() as folder:
        for path, device in itertools.product(paths, DEVICES):
            url = f"http://127.0.0.1:{server.port}{path}"
            report = measure(url, device, browser, Path(folder))
            scores = [round(report["categories"][name]["score"] * 100) for name in CATEGORIES]
            figures = "".join(f"{score:16}" for score in scores)
            print(f"{f'{path}, {device}':56}{figures}", flush=True)
            for fault in list_faults(report):
                print(f"    {fault}")
            low |= min(scores) < LOWEST
    sys.exit(low)


def measure(url: str, device: str, browser: str, folder: Path) -> dict[str, Any]:
    """Run Lighthouse on a page as one of `DEVICES` shows it; give its report."""
    output = folder / "report.json"
    command = [
        *("npx", "--yes", LIGHTHOUSE, url, "--quiet", "--output=json", f"--output-path={output}"),
        DEVICES[device],
        f"--only-categories={','.join(CATEGORIES)}",
        "--chrome-flags=--headless=new --no-sandbox --disable-gpu",
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "CHROME_PATH": browser},
        timeout=_SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"Lighthouse did not measure {url}:\n{done.stderr}")
    report: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return report


def list_faults(report: dict[str, Any]) -> list[str]:
    """List what cost points."""
    audits, found = report["audits"], []
    for name in CATEGORIES:
        for part in report["categories"][name]["auditRefs"]:
            audit = audits[part["id"]]
            if part["weight"] and audit["score"] is not None and audit["score"] < 0.9:
                shown = audit.get("displayValue", "")
                found.append(f"{name}: {audit['title']} {shown}".rstrip())
    return found


if __name__ == "__main__":
    main()
