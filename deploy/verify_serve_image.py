"""Checks the Dockerfile's serve stage without Docker: `make verify-image`.

It copies what the stage copies into an empty folder, installs what the stage installs into an empty
environment, runs the stage's other command, starts the image's program there as the image's user,
requests a prediction, the page and a job, and checks what must not be there and what must not be
written. It ends with status 1 at the first failure. Only root can start a program as another user:
anyone else's run says that it used their own.
"""

import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

PROJECT = Path(__file__).parents[1]
SECONDS_TO_START = 60
PYTHONS = ("/usr/local/bin/python3", "/usr/bin/python3")
UNWANTED = ("tensorflow", "keras", "torch", "jax", "sklearn", "matplotlib", "pytest", "training")


def read_stage(name: str) -> str:
    """Read a stage of the Dockerfile, without the stages it builds on."""
    stages = re.split(r"^FROM .* AS ", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return next(stage for stage in stages if stage.startswith(f"{name}\n"))


def copy_stage(name: str, folder: Path) -> None:
    """Copy what a stage copies into a folder; end the program if Docker would not find it."""
    let_through = (PROJECT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.+)$", read_stage(name), flags=re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            if f"!{source}" not in let_through or not (PROJECT / source).exists():
                sys.exit(f"FAILED: COPY {source}: .dockerignore keeps it out, or it is missing.")
            if (PROJECT / source).is_file():
                shutil.copy(PROJECT / source, folder / target)
            else:
                ignore = shutil.ignore_patterns("__pycache__", ".*")
                shutil.copytree(PROJECT / source, folder / target, ignore=ignore)


def read_user() -> dict[str, Any]:
    """Give the image's user as arguments of `subprocess`; none where only root could use it."""
    if os.geteuid() != 0:
        print("Not root: the service runs as your own user, not as the image's.", flush=True)
        return {}
    [user, group] = re.findall(r"^USER (\d+):(\d+)$", read_stage("serve"), flags=re.MULTILINE)[0]
    return {"user": int(user), "group": int(group), "extra_groups": []}


def find_python(user: dict[str, Any]) -> str:
    """Find a Python that the image's user can run: ours may be in root's home."""
    for program in (sys.executable, *PYTHONS):
        with contextlib.suppress(OSError):
            command = [str(Path(program).resolve()), "-c", "import ensurepip, venv"]
            if subprocess.run(command, check=False, cwd="/", **user).returncode == 0:
                return command[0]
    sys.exit(
        f"FAILED: the image's user can run none of {sys.executable}, {', '.join(PYTHONS)}. "
        "Install one: apt-get install python3-venv"
    )


def list_files(folder: Path) -> set[tuple[Path, int]]:
    """List every file of a folder except compiled Python, with the time of its last change."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {(path, path.stat().st_mtime_ns) for path in files}


def ask(address: str, data: bytes | None = None, kind: str = "image/png") -> bytes:
    """Get an address, or post data to it; raises OSError if the answer is an error."""
    request = urllib.request.Request(address, data, {"Content-Type": kind})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  (our own address)
        body: bytes = answer.read()
        return body


def prove(process: subprocess.Popen[bytes], server: str) -> None:
    """Wait until a service is ready; request a prediction, the page with its files, and a job."""
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            ask(f"{server}/readyz")
            break
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"FAILED: it is not ready ({error}); see above.")
            time.sleep(0.1)
    picture = io.BytesIO()
    Image.radial_gradient("L").point(lambda value: max(0, 200 - 2 * value)).save(picture, "PNG")
    answer = json.loads(ask(f"{server}/api/predict", picture.getvalue()))
    print("Predicted:", answer["predictions"][0]["label"], flush=True)
    for file in set(re.findall(rb'(?:src|href)="(/static/[^"]+)"', ask(f"{server}/"))):
        ask(f"{server}{file.decode()}")
    scans = io.BytesIO()
    with zipfile.ZipFile(scans, "w") as archive:
        archive.writestr("scan.png", picture.getvalue())
    job = json.loads(ask(f"{server}/api/jobs", scans.getvalue(), "application/zip"))["id"]
    while json.loads(ask(f"{server}/api/jobs/{job}"))["state"] != "done":
        if time.monotonic() > deadline + SECONDS_TO_START:
            sys.exit("FAILED: a job does not end.")
        time.sleep(0.1)


def main() -> None:
    """Build, start, ask, stop and compare."""
    user = read_user()
    with tempfile.TemporaryDirectory(prefix="serve-image-") as name:
        app, temporary, programs = (Path(name, inner) for inner in ("app", "tmp", "venv/bin"))
        app.mkdir()
        temporary.mkdir()
        temporary.chmod(0o1777)
        Path(name).chmod(0o755)
        copy_stage("serve", app)
        subprocess.run([find_python(user), "-m", "venv", programs.parent], check=True)
        environment = {
            "PATH": f"{programs}:{os.defpath}",
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
        }
        for command in re.findall(r"^RUN (.+)$", read_stage("serve"), flags=re.MULTILINE):
            installs = {**os.environ, **environment, "PIP_QUIET": "1"}
            subprocess.run(command, shell=True, check=True, cwd=app, env=installs)  # noqa: S602
        find = "import sys, importlib.util as u; print(*filter(u.find_spec, sys.argv[1:]))"
        command = [str(programs / "python"), "-c", find, *UNWANTED]
        if found := subprocess.check_output(command, cwd=app, text=True).strip():
            sys.exit(f"FAILED: these packages must not be in the image: {found}")
        files, jobs = list_files(Path(name)), app / "instance" / "jobs"
        pacs, cache = app / "instance" / "pacs", app / "instance" / "cache"
        if user:
            command = ["find", name, "-writable", "-not", "-type", "l"]
            can_write = subprocess.check_output(command, text=True, **user).split()
            if sorted(can_write) != sorted(map(str, (jobs, pacs, cache, temporary))):
                sys.exit(f"FAILED: the image's user can write: {can_write}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            environment["PORT"] = str(free.getsockname()[1])
        [entry] = re.findall(r"^ENTRYPOINT (.+)$", read_stage("serve"), flags=re.MULTILINE)
        process = subprocess.Popen(json.loads(entry), cwd=app, env=environment, **user)
        try:
            prove(process, f"http://127.0.0.1:{environment['PORT']}")
        finally:
            process.terminate()
            status = process.wait(30)
        changed = {path for path, _ in list_files(Path(name)) ^ files}
        written = [path for path in changed if not {temporary, jobs} & set(path.parents)]
        if status or written:
            sys.exit(f"FAILED: it ended with status {status}; written elsewhere: {written}")
    print("The image is proven: it answers, stops, and writes nothing but /tmp and its jobs.")


if __name__ == "__main__":
    main()
