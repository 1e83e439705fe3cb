"""Checks the Dockerfile's serve stage without Docker: `make verify-image`.

It copies what the stage copies into an empty folder, installs what the stage installs into an empty
environment, starts the image's command there, requests a prediction and the page, and checks what
must not be there. It ends with status 1 at the first failure.
"""

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
from pathlib import Path

from PIL import Image

PROJECT = Path(__file__).parents[1]
SECONDS_TO_START = 60
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


def list_files(folder: Path) -> set[tuple[Path, int]]:
    """List every file of a folder except compiled Python, with the time of its last change."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {(path, path.stat().st_mtime_ns) for path in files}


def ask(address: str, picture: bytes | None = None) -> bytes:
    """Get an address, or post a picture to it; raises OSError if the answer is not 200."""
    request = urllib.request.Request(address, picture, {"Content-Type": "image/png"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  (our own address)
        body: bytes = answer.read()
        return body


def prove(process: subprocess.Popen[bytes], server: str) -> None:
    """Wait until a service is ready; request a prediction, the page and the page's files."""
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


def main() -> None:
    """Build, start, ask, stop and compare."""
    with tempfile.TemporaryDirectory(prefix="serve-image-") as name:
        app, temporary, programs = (Path(name, inner) for inner in ("app", "tmp", "venv/bin"))
        app.mkdir()
        temporary.mkdir()
        copy_stage("serve", app)
        subprocess.run([sys.executable, "-m", "venv", programs.parent], check=True)
        install = ["-m", "pip", "install", "--quiet", "--require-hashes", "-r"]
        subprocess.run([programs / "python", *install, app / "requirements-serve.txt"], check=True)
        find = "import sys, importlib.util as u; print(*filter(u.find_spec, sys.argv[1:]))"
        command = [str(programs / "python"), "-c", find, *UNWANTED]
        if found := subprocess.check_output(command, cwd=app, text=True).strip():
            sys.exit(f"FAILED: these packages must not be in the image: {found}")
        files = list_files(Path(name))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            "PATH": f"{programs}:{os.defpath}",
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "PORT": str(port),
        }
        [entry] = re.findall(r"^ENTRYPOINT (.+)$", read_stage("serve"), flags=re.MULTILINE)
        process = subprocess.Popen(json.loads(entry), cwd=app, env=environment)
        try:
            prove(process, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            status = process.wait(30)
        changed = {path for path, _ in list_files(Path(name)) ^ files}
        written = [path for path in changed if temporary not in path.parents]
        if status or written:
            sys.exit(f"FAILED: it ended with status {status}; written outside /tmp: {written}")
    print("The image is proven: it answers, stops, and writes nothing outside /tmp.")


if __name__ == "__main__":
    main()
