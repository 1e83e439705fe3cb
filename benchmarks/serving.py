"""This server compared with other ways to serve the same network, and with the machine's limit.

    python -m benchmarks.serving --scan scan.jpg

All are started together and loaded in turn with the same scan; the others are paused. The best turn
of each counts, because other work on the machine can only slow a turn down. `bare` is the same
decoding, cropping, resizing and inference in a loop, without HTTP: one loop per core or, for one
client, one loop with all cores for an inference. Also prints the time until four bundles (the
installed ones and a copy of each) are ready, and the worker's memory.
"""

import argparse
import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import cv2

from benchmarks.load import Load, load
from benchmarks.servers import Server, find_port, measure_memory, run_server, run_tumorapp
from brainscan.bundle import read_bundle
from brainscan.bundle.manifest import write_manifest
from brainscan.engine import choose_engine
from brainscan.scan import read_scan

PEERS = ("tutorial", "litserve_tensorflow", "litserve_openvino")
CLIENTS = (1, 8, 64)


@dataclass(frozen=True)
class Contender:
    """A server that answers for one model at one address."""

    name: str
    server: Server
    url: str


def fill_models(folder: Path, installed: Path) -> None:
    """Make a folder of four bundles: this project's two, and a copy of each."""
    for source in sorted(installed.glob("*/[0-9]*")):
        for name in (source.parent.name, f"{source.parent.name}-copy"):
            copy = folder / name / source.name
            shutil.copytree(source, copy)
            card = replace(read_bundle(source), name=name)
            (copy / "card.json").write_text(card.to_json())
            write_manifest(copy)


def find_bundle(models: Path, name: str) -> Path:
    """Give the folder of the newest version of a model."""
    return max((models / name).glob("[0-9]*"), key=lambda path: int(path.name))


def loop_bare(folder: Path, scan: Path, threads: int, seconds: float) -> list[float]:
    """Prepare and predict a scan until the time is over; give the milliseconds of each turn."""
    card, data = read_bundle(folder), scan.read_bytes()
    engine = choose_engine("openvino", threads)(folder, card)
    cv2.setNumThreads(1)  # as the server does
    times: list[float] = []
    for warm in (True, False):
        end = time.perf_counter() + (0.5 if warm else seconds)
        while (start := time.perf_counter()) < end:
            engine.predict(read_scan(data, card.scan).pixels[None])
            if not warm:
                times.append(1000 * (time.perf_counter() - start))
    return times


def load_bare(folder: Path, scan: Path, clients: int, seconds: int) -> Load:
    """Measure the limit: one loop for one client, else one for each core."""
    cores = 1 if clients == 1 else os.cpu_count() or 1
    task = partial(loop_bare, folder, scan, 0 if cores == 1 else 1)
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        loops = pool.map(task, [seconds] * cores, chunksize=1)
    times = sorted(one for loop in loops for one in loop)
    return Load(len(times) / seconds, median(times), times[int(0.99 * len(times))])


@contextlib.contextmanager
def run_contenders(models: Path, model: str, peers: tuple[str, ...]) -> Iterator[list[Contender]]:
    """Start every server for one model."""
    with contextlib.ExitStack() as stack:
        settings = {"TUMORAPP_MODELS_DIR": str(models), "TUMORAPP_DEFAULT_MODEL": model}
        own = stack.enter_context(run_tumorapp(settings))
        address = f"http://127.0.0.1:{own.port}/api/predict"
        contenders = [
            Contender("tumorapp", own, address),
            Contender("tumorapp, heat maps", own, f"{address}?heatmap=1"),
        ]
        for peer in peers:
            port = find_port()
            bundle = str(find_bundle(models, model))
            command = [sys.executable, "-m", f"benchmarks.peers.{peer}", bundle, str(port)]
            # LitServe says so once its workers have loaded their models.
            path = "/health" if peer.startswith("litserve") else "/predict"
            server = stack.enter_context(run_server(command, port, path, {}))
            contenders.append(Contender(peer, server, f"http://127.0.0.1:{port}/predict"))
        yield contenders


def measure(
    models: Path, model: str, scan: Path, arguments: argparse.Namespace
) -> dict[str, dict[int, Load]]:
    """Load each server in turn; give the best of its turns, by name and number of clients."""
    turns: dict[str, dict[int, list[Load]]] = {}
    bundle = find_bundle(models, model)
    with run_contenders(models, model, tuple(arguments.peers)) as contenders:
        for one in contenders:
            one.server.go_on()
            load(one.url, scan, 2, 2)  # the first requests pay for what is set up once
            one.server.rest()
        for _ in range(arguments.rounds):
            for clients in CLIENTS:
                if clients <= 8:
                    kept = turns.setdefault("bare", {}).setdefault(clients, [])
                    kept.append(load_bare(bundle, scan, clients, arguments.seconds))
                for one in contenders:
                    one.server.go_on()
                    kept = turns.setdefault(one.name, {}).setdefault(clients, [])
                    kept.append(load(one.url, scan, clients, arguments.seconds))
                    one.server.rest()
    return {
        name: {clients: _choose(loads) for clients, loads in by_clients.items()}
        for name, by_clients in turns.items()
    }


def _choose(loads: list[Load]) -> Load:
    return Load(
        max(one.rate for one in loads),
        min(one.median for one in loads),
        min(one.p99 for one in loads),
    )


def compare(found: dict[str, dict[int, Load]]) -> dict[str, float]:
    """Give the ratios between what was measured."""
    own, bare, heat = found["tumorapp"], found["bare"], found["tumorapp, heat maps"]
    ratios = {
        "8 clients, throughput over bare": own[8].rate / bare[8].rate,
        "64 clients, throughput over that at 8": own[64].rate / own[8].rate,
        "1 client, median over bare": own[1].median / bare[1].median,
        "1 client, p99 over median": own[1].p99 / own[1].median,
        "8 clients, throughput with heat maps over without": heat[8].rate / own[8].rate,
    }
    for peer in PEERS:
        if peer in found:
            ratios[f"8 clients, throughput over {peer}"] = own[8].rate / found[peer][8].rate
    return ratios


def print_loads(model: str, found: dict[str, dict[int, Load]]) -> None:
    """Print what each server did."""
    print(f"\n{model:24} clients   requests/s   median ms     p99 ms")
    for name, by_clients in found.items():
        for clients, one in by_clients.items():
            print(f"{name:24} {clients:7} {one.rate:12.1f} {one.median:11.2f} {one.p99:10.2f}")


def main() -> None:
    """Measure every model and print the ratios last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scan", type=Path, required=True, help="an image of a scan")
    parser.add_argument("--models", nargs="+", default=["lesion-lite0"])
    parser.add_argument("--installed", type=Path, default=Path("instance/models"))
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--seconds", type=int, default=4, help="per turn")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ratios: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        models = Path(name)
        fill_models(models, arguments.installed)
        with run_tumorapp({"TUMORAPP_MODELS_DIR": name}) as server:
            print(f"four bundles: ready {server.seconds:.2f} s after gunicorn's start", flush=True)
            print(f"memory of the worker: {measure_memory(server.process):.0f} MB", flush=True)
        for model in arguments.models:
            found = measure(models, model, arguments.scan, arguments)
            print_loads(model, found)
            ratios[model] = compare(found)
    print()
    for model, named in ratios.items():
        for label, ratio in named.items():
            print(f"{model}: {label}: {ratio:.2f}")


if __name__ == "__main__":
    main()
