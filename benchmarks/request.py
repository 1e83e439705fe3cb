"""A request for one scan against preparing and predicting it alone, side by side.

    python -m benchmarks.request --scan scan.jpg

The request goes over HTTP to a real gunicorn on this machine, on a connection that is kept; the
bare limit is the same decode, crop, resize and inference in this process, without HTTP. Also
prints the memory of the worker that has loaded every bundle, and the time it took to be ready.
"""

import argparse
import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tumorapp.catalog import Catalog
from tumorapp.inference import Upload, prepare_upload

_ROUNDS = 10
_CALLS = 50
_BOUNDARY = "tumorapp-benchmark"


@contextlib.contextmanager
def run_server() -> Iterator[tuple[int, int, float]]:
    """Start gunicorn; give its port, its process number and the seconds until it was ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
    start = time.perf_counter()
    server = subprocess.Popen(
        command,
        env={**os.environ, "HOST": "127.0.0.1", "PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not is_ready(port):
            if server.poll() is not None:
                raise SystemExit("gunicorn did not start; run `make run` to see why.")
            time.sleep(0.01)
        yield port, server.pid, time.perf_counter() - start
    finally:
        server.terminate()
        server.wait()


def is_ready(port: int) -> bool:
    """Tell whether the server answers and has loaded its models."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (ConnectionError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def measure_memory(parent: int) -> float:
    """Give the resident memory, in MB, of the largest worker of a gunicorn."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    pages = [int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children]
    return max(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def time_requests(port: int, scan: Path, model: str) -> float:
    """Median milliseconds of a POST with one scan."""
    body = (
        (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; '
            f'filename="{scan.name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        ).encode()
        + scan.read_bytes()
        + f"\r\n--{_BOUNDARY}--\r\n".encode()
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        connection.request("POST", f"/api/predict?model={model}", body, headers)
        response = connection.getresponse()
        answer = response.read()
        times.append(1000 * (time.perf_counter() - start))
        if response.status != 200:
            raise SystemExit(f"The server answered {response.status}: {answer.decode()}")
    connection.close()
    return median(times)


def time_bare(catalog: Catalog, scan: Path, model: str) -> float:
    """Median milliseconds of preparing and predicting one scan in this process."""
    loaded = catalog.get(model)
    data = scan.read_bytes()
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        prepared = prepare_upload(Upload(scan.name, data), loaded.card.scan)
        loaded.engine.predict(prepared.pixels[None])
        times.append(1000 * (time.perf_counter() - start))
    return median(times)


def main() -> None:
    """Time both in turn for every installed model and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scan", type=Path, required=True, help="an image of a scan")
    parser.add_argument("--models", type=Path, default=Path("instance/models"))
    arguments = parser.parse_args()
    catalog = Catalog(arguments.models)
    with run_server() as (port, process, seconds):
        print(f"ready {seconds:.2f} s after gunicorn's start")
        for model in catalog.models:
            pairs = [
                (
                    time_requests(port, arguments.scan, model),
                    time_bare(catalog, arguments.scan, model),
                )
                for _ in range(_ROUNDS)
            ]
            request, bare = (median(column) for column in zip(*pairs, strict=True))
            ratio = median(one / other for one, other in pairs)
            print(f"{model}: request {request:.2f} ms, bare {bare:.2f} ms, ratio {ratio:.2f}")
        print(f"memory of the worker: {measure_memory(process):.0f} MB")


if __name__ == "__main__":
    main()
