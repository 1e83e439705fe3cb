"""Loads a server with wrk, an HTTP benchmark that itself needs little processor time."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mixed_load import BOUNDARY, write_form

# wrk's own language; `done` is called at the end, with microseconds.
_SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "multipart/form-data; boundary={boundary}"
file:close()
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n{{"requests": %d, "microseconds": %d, "median": %f, "p99": %f, "failed": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What a server did under load.

    Attributes:
        rate: requests a second.
        median: milliseconds of one request.
        p99: milliseconds within which 99 % were answered.
    """

    rate: float
    median: float
    p99: float


def load(url: str, scan: Path, clients: int, seconds: int) -> Load:
    """Post a scan again and again, over as many connections as there are clients.

    Raises:
        SystemExit: wrk is not installed, or a request failed.
    """
    if not shutil.which("wrk"):
        raise SystemExit("This benchmark needs wrk. On Debian and Ubuntu: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name:
        body, script = Path(name, "body"), Path(name, "post.lua")
        body.write_bytes(write_form(("image", scan.read_bytes())))
        script.write_text(_SCRIPT.format(body=body, boundary=BOUNDARY))
        size = ["--threads=1", f"--connections={clients}", f"--duration={seconds}s"]
        run = ["wrk", *size, "--timeout=30s", f"--script={script}", url]
        output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    told = json.loads(output.splitlines()[-1])
    if told["failed"] or not told["requests"]:
        raise SystemExit(f"{told['failed']} of {told['requests']} requests to {url} failed.")
    return Load(
        told["requests"] / told["microseconds"] * 1e6, told["median"] / 1e3, told["p99"] / 1e3
    )
