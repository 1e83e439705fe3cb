"""Run every benchmark on one data set: `make bench ARGS=--data=instance/data/nickparvar`."""

import argparse
import subprocess
import sys
from pathlib import Path

from training.data.folders import find_scans


def main() -> None:
    """Run the benchmarks one after another; stop at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("instance/data/nickparvar"))
    data = parser.parse_args().data
    scan = find_scans(data)[0].path
    options = {
        "preparation": f"--data={data}",
        "training": f"--data={data}",
        "serving": f"--scan={scan}",
    }
    for module, option in options.items():
        print(f"\n{module}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{module}", option], check=True)


if __name__ == "__main__":
    main()
