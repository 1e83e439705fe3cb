"""How many scans a second a core serves, and how many cores a number of scans a day needs.

    python -m benchmarks.capacity --scan scan.jpg

The server is bound to the machine's first cores; wrk runs on the others, or shares them where there
are none. The best round counts. Prints the tables of docs/capacity.md.
"""

import argparse
import math
import os
from pathlib import Path

from benchmarks.load import Load, load
from benchmarks.servers import run_tumorapp

REPLICA = 2  # cores
CLIENTS = 8
SCANS_A_DAY = (1_000, 100_000, 1_000_000, 10_000_000)
HOURS = (24, 8)  # in which they come
UTILISATION = 0.6  # that of the autoscaler


def measure(cores: int, arguments: argparse.Namespace) -> dict[int, Load]:
    """Load a server on so many cores; give the best round of one client and of many."""
    every = os.sched_getaffinity(0)
    own = set(sorted(every)[:cores])
    os.sched_setaffinity(0, own)  # what is started now inherits it
    try:
        with run_tumorapp(
            {"WEB_CONCURRENCY": str(cores), "TUMORAPP_INFERENCE_THREADS": str(cores)}
        ) as server:
            os.sched_setaffinity(0, every - own or every)
            url = f"http://127.0.0.1:{server.port}/api/predict"
            load(url, arguments.scan, 2, 2)  # the first requests pay for what is set up once
            rounds = {
                clients: [
                    load(url, arguments.scan, clients, arguments.seconds)
                    for _ in range(arguments.rounds)
                ]
                for clients in (1, CLIENTS)
            }
    finally:
        os.sched_setaffinity(0, every)
    return {clients: max(loads, key=lambda one: one.rate) for clients, loads in rounds.items()}


def plan(scans: int, hours: int, rate: float) -> str:
    """Give the cells for scans that come in so many hours: scans/s, cores, replicas.

    Args:
        scans: how many.
        hours: in which they come, evenly.
        rate: scans a second that a replica serves.
    """
    wanted = scans / hours / 3600
    replicas = wanted / rate / UTILISATION
    return f"{wanted:.2f} | {math.ceil(REPLICA * replicas)} | {max(2, math.ceil(replicas))}"


def main() -> None:
    """Measure servers of different size, and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scan", type=Path, required=True, help="an image of a scan")
    parser.add_argument("--seconds", type=int, default=5, help="per round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"| cores | 1 client: ms | {CLIENTS} clients: scans/s | ms, median (p99) |")
    print("|---|---|---|---|")
    found = {cores: measure(cores, arguments) for cores in (1, REPLICA)}
    for cores, loads in found.items():
        many = loads[CLIENTS]
        print(f"| {cores} | {loads[1].median:.1f} | {many.rate:.0f}", end=" | ")
        print(f"{many.median:.0f} ({many.p99:.0f}) |")
    heads = [f"in {hours} hours: scans/s | cores | replicas" for hours in HOURS]
    print(f"\n| scans a day | {' | '.join(heads)} |\n|---|{'---|' * 3 * len(HOURS)}")
    for scans in SCANS_A_DAY:
        cells = [plan(scans, hours, found[REPLICA][CLIENTS].rate) for hours in HOURS]
        print(f"| {scans:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
