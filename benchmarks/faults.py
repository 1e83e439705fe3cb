"""How a running service copes with overload, slow or broken clients and a killed worker.

    python -m benchmarks.faults --minutes 10

Each fault runs against its own gunicorn on this machine and ends in a verdict. The last one is
many minutes of mixed good and bad requests, during which the worker's memory must not grow.
"""

import argparse
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from benchmarks.mixed_load import Kind, Load, ask, leave_early, list_kinds, read_scan
from benchmarks.servers import find_port, is_ready, measure_memory

_HEALTH = Kind("health", 200, "/healthz")
_MOST_GROWTH = 0.05
_MOST_LOGGED = 1000  # bytes of log for each request


@dataclass(frozen=True)
class Service:
    """A running gunicorn."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(self, kind: Kind) -> tuple[int, float]:
        """Send one request on a new connection; give its status and seconds."""
        start = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            return ask(connection, kind), time.perf_counter() - start

    def connect(self, sent: bytes) -> socket.socket:
        """Open a connection and send some bytes."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(sent)
        return connection

    def workers(self) -> list[int]:
        """Give the process numbers of the workers."""
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(number) for number in Path(children).read_text().split()]


@contextlib.contextmanager
def run_service(**variables: str) -> Iterator[Service]:
    """Run gunicorn on a free port until the block ends."""
    port = find_port()
    own = {"HOST": "127.0.0.1", "PORT": str(port), **variables}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"],
                env={**os.environ, **own},
                stdout=output,
                stderr=output,
            )
        try:
            while not is_ready(port):
                if process.poll() is not None:
                    raise SystemExit(f"gunicorn did not start:\n{log.read_text()}")
                time.sleep(0.02)
            yield Service(process, port, log)
            if "Traceback" in log.read_text():
                print(log.read_text()[-4000:], file=sys.stderr)
                raise SystemExit("There is a traceback in the log.")
        finally:
            process.terminate()
            process.wait()


Verdict = tuple[bool, str]


def overload(scan: Kind, seconds: float) -> Verdict:
    """Let 64 clients send requests without a pause where 8 may wait."""
    with run_service(TUMORAPP_MAX_WAITING="8") as service:
        with Load(service.port, [scan], 8) as calm:
            time.sleep(seconds)
        health = []
        with Load(service.port, [scan], 64) as tally:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                health.append(service.ask(_HEALTH)[1])
                time.sleep(0.05)
        after, _ = service.ask(scan)
    accepted, refused = tally.seconds[200], tally.seconds[503]
    passed = (
        set(tally.seconds) == {200, 503}
        and after == 200
        and max(health) < 1
        and max(refused) < 1
        and max(accepted) < 5
    )
    return passed, (
        f"{len(accepted) / seconds:.0f} answers/s (8 clients: {calm.count(200) / seconds:.0f}), "
        f"{max(accepted):.2f} s at most; {len(refused) / seconds:.0f} refusals/s, median "
        f"{1000 * median(refused):.0f} ms, p99 {1000 * quantiles(refused, n=100)[98]:.0f} ms; "
        f"health at most {1000 * max(health):.0f} ms"
    )


def killed_worker(scan: Kind, seconds: float) -> Verdict:
    """Kill one of two workers under load."""
    with run_service(WEB_CONCURRENCY="2") as service:
        before = service.workers()
        with Load(service.port, [scan], 8) as tally:
            time.sleep(seconds / 2)
            os.kill(before[0], signal.SIGKILL)
            start = time.monotonic()
            while len(set(service.workers()) - {before[0]}) < 2 and time.monotonic() - start < 30:
                time.sleep(0.02)
            replaced = time.monotonic() - start
            time.sleep(seconds / 2)
    broken = tally.count(0)  # at most one per client: what was on its way
    passed = set(tally.seconds) <= {0, 200} and broken <= 8 and replaced < 5
    return passed, f"{tally.count(200)} answered, {broken} broken, replaced after {replaced:.2f} s"


def slow_clients(scan: Kind, _: float) -> Verdict:
    """Let 200 clients trickle heads, bodies and chunks, a byte a second each."""
    post = b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    framings = (b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n", b"")
    with run_service() as service, contextlib.ExitStack() as stack:
        left = [
            stack.enter_context(service.connect(post + framings[index % 3])) for index in range(200)
        ]
        start, asked = time.monotonic(), []
        while left and time.monotonic() - start < 30:
            asked += [service.ask(scan) for _ in range(3)]
            left = [connection for connection in left if _trickles(connection)]
            time.sleep(1)
        held = time.monotonic() - start
    slowest = max(seconds for _, seconds in asked)
    passed = not left and held < 15 and slowest < 1 and {status for status, _ in asked} == {200}
    return passed, f"all disconnected after {held:.0f} s; a scan took at most {slowest:.2f} s"


def _trickles(connection: socket.socket) -> bool:
    """Send one more byte; tell whether the service still waits for them."""
    try:
        connection.send(b"1")
        connection.setblocking(False)
        connection.recv(1000)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def leaving_clients(scan: Kind, _: float) -> Verdict:
    """Let 400 clients disconnect while they send, then send ordinary requests."""
    with run_service() as service:
        for index in range(400):
            leave_early(service.port, scan.body or b"", index / 400)
        answers = [service.ask(scan) for _ in range(20)]
    slowest = max(seconds for _, seconds in answers)
    passed = slowest < 1 and {status for status, _ in answers} == {200}
    return passed, f"afterwards a scan took at most {slowest:.2f} s; no traceback"


def stopping(scan: Kind, _: float) -> Verdict:
    """Tell the service to stop while 100 requests wait."""
    body = scan.body or b""
    head = f"POST {scan.path} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with run_service() as service, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(service.connect(request)) for _ in range(100)]
        service.process.terminate()
        start = time.monotonic()
        answered = sum(
            connection.recv(2**16).startswith(b"HTTP/1.1 200") for connection in connections
        )
        status = service.process.wait(timeout=60)
        seconds = time.monotonic() - start
    return answered == 100 and status == 0, f"{answered} of 100 answered, gone in {seconds:.1f} s"


def mixed_load(scan: Kind, seconds: float) -> Verdict:
    """Mix good and bad requests of 8 clients, and watch the memory and the log."""
    kinds = list_kinds(scan.body or b"")
    memory = []
    with run_service(TUMORAPP_LOG_FORMAT="json") as service:
        with Load(service.port, kinds, 8, leaving=0.1) as tally:
            for _ in range(100):
                time.sleep(seconds / 100)
                memory.append(measure_memory(service.process.pid))
        after, _ = service.ask(scan)
        logged = service.log.stat().st_size
    first, last = median(memory[20:30]), median(memory[-10:])
    expected = {kind.name: kind.status for kind in kinds}
    odd = {key: number for key, number in tally.answers.items() if key[1] != expected[key[0]]}
    total, failures = sum(tally.answers.values()), tally.count(*range(500, 600))
    steady = last <= first * (1 + _MOST_GROWTH)
    passed = not odd and after == 200 and steady and logged <= _MOST_LOGGED * total
    return passed, (
        f"{total} requests of {len(kinds)} kinds, {failures} answered with 5xx, unexpected: "
        f"{odd or 'none'}; memory {first:.0f} → {last:.0f} MB ({last / first - 1:+.1%}), "
        f"{max(memory):.0f} MB at most; {logged / total:.0f} bytes of log per request"
    )


FAULTS: dict[str, Callable[[Kind, float], Verdict]] = {
    "overload": overload,
    "killed-worker": killed_worker,
    "slow-clients": slow_clients,
    "leaving-clients": leaving_clients,
    "stopping": stopping,
    "mixed-load": mixed_load,
}


def main() -> None:
    """Run every fault and print a table; the exit status is 1 if any went badly."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="of mixed load (10)")
    parser.add_argument("--scan", type=Path, help="an image of a scan; without it, one is drawn")
    parser.add_argument("--only", choices=FAULTS, help="run only this fault")
    arguments = parser.parse_args()
    image = {"Content-Type": "image/jpeg"}
    scan = Kind("scan", 200, "/api/predict", read_scan(arguments.scan), image)
    well = True
    for name in [arguments.only] if arguments.only else FAULTS:
        seconds = 60 * arguments.minutes if name == "mixed-load" else 5
        passed, found = FAULTS[name](scan, seconds)
        well &= passed
        print(f"{'good' if passed else 'BAD ':6}{name:17}{found}", flush=True)
    sys.exit(not well)


if __name__ == "__main__":
    main()
