"""Prove the Dockerfile's serve stage where there is no Docker.

It follows the stage's own steps in an empty folder and an empty virtual environment, starts the
command that the image would start, waits for the image's own health check, asks for a prediction
and for the page, and checks what must not be there. `python -m deploy.verify_serve_image` exits
with 1 at the first step that fails, and says which.
"""

import argparse
import io
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image as Picture
from PIL import ImageDraw

from deploy.dockerfile import Step, StepError, read_stage
from deploy.image import Image

SECONDS_TO_HEALTH = 60
UNWANTED = ("tensorflow", "keras", "torch", "jax", "sklearn", "matplotlib", "pytest")


def draw_phantom() -> bytes:
    """Draw a head with a bright spot in it: a grey PNG of 200 by 220 pixels."""
    picture = Picture.new("L", (200, 220), 4)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((20, 15, 180, 205), fill=200)
    pen.ellipse((30, 25, 170, 195), fill=90)
    pen.ellipse((105, 70, 145, 110), fill=230)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def build(project: Path, target: str, folder: Path) -> Image:
    """Follow every step of the stage, printing each, and return what they made."""
    image = Image(project, folder)
    for step in read_stage(project / "Dockerfile", target):
        started = time.monotonic()
        with naming(step):
            remark = image.follow(step)
        seconds = time.monotonic() - started
        print(f"  {step}" + (f"  ({remark})" if remark else "") + f"  {seconds:.1f} s", flush=True)
    return image


@contextmanager
def naming(step: Step) -> Iterator[None]:
    """Put the Dockerfile's line before what a failed step says."""
    try:
        yield
    except StepError as error:
        raise StepError(f"Dockerfile, line {step.line}: {step}\n{error}") from error


def check_image(image: Image) -> None:
    """Check what can be seen before it starts: user, health check, command, packages."""
    if not re.fullmatch(r"[1-9]\d*(:\d+)?", image.user):
        raise StepError(
            f"USER must be a number other than 0, so that a cluster can check it: {image.user}"
        )
    if not image.healthcheck or not image.entrypoint:
        raise StepError("The stage needs both HEALTHCHECK and ENTRYPOINT.")
    program = "import sys, importlib.util as u; print(*filter(u.find_spec, sys.argv[1:]))"
    found = image.run(["python", "-c", program, *UNWANTED])
    if found.returncode or found.stdout.strip():
        raise StepError(f"These packages must not be in the image: {found.stdout.strip()}")


def find_free_port() -> int:
    """Find a port that nothing on this machine listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(image: Image, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the image's command; stop it at the end, as `docker stop` does."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*image.entrypoint, *image.arguments],
            cwd=image.workdir,
            env=image.process_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_health(image: Image, process: subprocess.Popen[bytes], log: Path) -> float:
    """Wait until the image's health check passes; return the seconds it took.

    Raises:
        StepError: the process ended, or the check did not pass within SECONDS_TO_HEALTH.
    """
    started = time.monotonic()
    while (seconds := time.monotonic() - started) < SECONDS_TO_HEALTH:
        if process.poll() is not None:
            raise StepError(f"It ended with status {process.returncode}:\n{read_end(log)}")
        check = image.run(image.healthcheck)
        if check.returncode == 0:
            return seconds
        time.sleep(0.2)
    raise StepError(
        f"HEALTHCHECK did not pass within {SECONDS_TO_HEALTH} s:\n"
        f"{check.stdout[-800:]}\n{read_end(log)}"
    )


def read_end(log: Path) -> str:
    """Read the last part of what the server printed."""
    return log.read_text(errors="replace")[-3000:]


def ask(address: str, picture: bytes | None = None) -> str:
    """Get an address, or post a PNG to it, and return the answer's text.

    Raises:
        StepError: there is no answer, or one with another status than 200.
    """
    request = urllib.request.Request(address, picture, {"Content-Type": "image/png"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310  (our own address)
            text: str = response.read().decode(errors="replace")
            return text
    except urllib.error.HTTPError as error:
        raise StepError(f"{address} answered {error.code}: {error.read()[:800]!r}") from error
    except OSError as error:
        raise StepError(f"{address} did not answer: {error}") from error


def ask_for_prediction(server: str) -> str:
    """Post a phantom to /api/predict and say what came back, in one line.

    Raises:
        StepError: the answer is not 200, or not of the documented form.
    """
    text = ask(f"{server}/api/predict", draw_phantom())
    try:
        answer = json.loads(text)
        (prediction,) = answer["predictions"]
        return f"{prediction['label']}, {prediction['probabilities']}"
    except (ValueError, KeyError, TypeError) as error:
        raise StepError(f"/api/predict answered 200 with another form: {text[:800]}") from error


def ask_for_page(server: str) -> int:
    """Get the page and every file of our own that it names; return how many those are.

    Raises:
        StepError: one of them does not answer with 200.
    """
    files = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', ask(f"{server}/")))
    for file in files:
        ask(server + file)
    return len(files)


def list_files(image: Image) -> dict[Path, tuple[int, int]]:
    """Size and time of change of every file of the image outside /tmp, but for compiled Python."""
    return {
        path: (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in image.folder.rglob("*")
        if not path.is_dir() and path.suffix != ".pyc" and image.folder / "tmp" not in path.parents
    }


def prove(image: Image, log: Path) -> None:
    """Check a built image, start it, ask it for a prediction, and stop it.

    Args:
        image: what `build` returned.
        log: the file that takes what the server prints; outside the image.

    Raises:
        StepError: something about it does not hold.
    """
    check_image(image)
    files = list_files(image)
    size = sum(size for size, _ in files.values()) / 2**20
    print(f"Built: {size:.0f} MiB with its packages, none of {', '.join(UNWANTED)}", flush=True)

    image.environment["PORT"] = str(find_free_port())
    print(f"Starting: {' '.join([*image.entrypoint, *image.arguments])}", flush=True)
    with running(image, log) as process:
        seconds = wait_for_health(image, process, log)
        print(f"Healthy after {seconds:.1f} s", flush=True)
        server = f"http://127.0.0.1:{image.environment['PORT']}"
        print(f"Predicted: {ask_for_prediction(server)}", flush=True)
        print(f"The page came, and its {ask_for_page(server)} files", flush=True)
    if process.returncode != 0:
        raise StepError(f"Stopping it gave status {process.returncode}:\n{read_end(log)}")
    if written := sorted(set(list_files(image).items()) ^ set(files.items())):
        raise StepError(
            f"It wrote outside /tmp, which a read-only container refuses: {written[0][0]}"
        )


def main() -> int:
    """Read the arguments, verify, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--project", type=Path, default=Path.cwd(), help="folder with the Dockerfile"
    )
    parser.add_argument("--target", default="serve", help="the stage to follow")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serve-image-") as temporary:
        folder = Path(temporary)
        try:
            print(f"Following the stage {arguments.target!r}:", flush=True)
            image = build(arguments.project.resolve(), arguments.target, folder / "image")
            prove(image, folder / "log")
        except StepError as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
    print("Stopped; it wrote nothing outside /tmp. The image is proven.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
