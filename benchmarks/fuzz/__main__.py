"""Feeds damaged scans, forms and requests to what reads uploads: each must be read or refused.

    python -m benchmarks.fuzz --inputs 100000
    python -m benchmarks.fuzz --inputs 10000 --volumes

Real files of every accepted format, and forms that contain them, are damaged where formats are
sensitive: bits, lengths, cuts, holes, repeated and exchanged pieces, pieces of another format.
TIFFs and DICOM files are also made of random tags, with noise for pixels. Requests with odd lengths
and long forms of text go through gunicorn's parser, and must be as long for werkzeug. Every input
is made from the seed and its own number, so one that fails can be repeated with --first. The run
stops at the first exception that is not a refusal, at the first input that takes more than
--seconds of the processor, and at the first that is written about to standard error. If a decoder
crashes the process, the last line shows where.
"""

import argparse
import faulthandler
import os
import resource
import sys
import time

from benchmarks.fuzz import FuzzError
from benchmarks.fuzz.cards import fuzz_cards
from benchmarks.fuzz.uploads import run
from tumorapp import create_app


def main() -> None:
    """Run it, and print the outcomes."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.fuzz",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--volumes", action="store_true", help="DICOM and NIfTI files")
    parser.add_argument("--seconds", type=float, default=5, help="of the processor, for one input")
    given = parser.parse_args()
    faulthandler.enable(os.fdopen(os.dup(2), "w"))
    start = time.perf_counter()
    try:
        outcomes, slowest = run(
            given.first, given.inputs, given.seed, given.seconds, volumes=given.volumes
        )
        app = create_app({"PROPAGATE_EXCEPTIONS": True})
        outcomes += fuzz_cards(app, given.first, given.inputs // 50, given.seed)
    except FuzzError as failure:
        sys.exit(
            f"{failure}\nAgain: python -m benchmarks.fuzz --seed {given.seed} "
            f"--first {failure.number} --inputs 1"
        )
    rate = given.inputs / (time.perf_counter() - start)
    print(f"{given.inputs:,} inputs, {rate:.0f} a second; the slowest took {slowest * 1000:.0f} ms")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"  {memory:8,} MB of memory at most")
    for outcome, count in outcomes.most_common():
        print(f"  {count:8,} {outcome}")


if __name__ == "__main__":
    main()
