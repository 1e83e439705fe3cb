"""From the choice of a volume to its slider in a real browser.

    python -m benchmarks.slider ../shared/samples/nifti/chris_t1.nii.gz

The volume is made 250 slices of 256 × 256 pixels first. Needs Chromium.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import nibabel
import numpy as np
from playwright.sync_api import Browser, sync_playwright

from benchmarks.servers import run_tumorapp

_SLICES, _SIDE = 250, 256
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# The time of a change is that of its event; a result is drawn in the frame after it is placed.
_LISTEN = """() => {
  addEventListener("change", ({ timeStamp }) => { window.started = timeStamp; }, { capture: true });
  document.addEventListener("predicted", () => requestAnimationFrame(() => setTimeout(() => {
    window.shown = performance.now();
  })));
}"""


def resample(source: Path, target: Path) -> None:
    """Write a volume with as many voxels as are wanted, 8 bits each, compressed."""
    image: Any = nibabel.load(source)
    voxels = np.asarray(image.dataobj, np.float32)
    planes = [cv2.resize(voxels[..., index], (_SIDE, _SIDE)) for index in range(voxels.shape[2])]
    stack = np.stack(planes, axis=-1).reshape(_SIDE * _SIDE, -1)
    found = cv2.resize(stack, (_SLICES, _SIDE * _SIDE)).reshape(_SIDE, _SIDE, _SLICES)
    found *= 255 / found.max()
    type(image)(found.astype(np.uint8), np.eye(4)).to_filename(target)


def read_seconds(parent: int) -> float:
    """Read the processor seconds of a process's children."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in children]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def measure(browser: Browser, url: str, volume: Path) -> tuple[float, int]:
    """Choose a volume on a new page; give the seconds, and the bytes of the answer."""
    page = browser.new_page()
    page.goto(url)
    page.evaluate(_LISTEN)
    page.set_input_files("#image", volume)
    page.locator("#slices input").wait_for(timeout=60_000)
    page.wait_for_timeout(200)
    seconds: float = page.evaluate("(shown - started) / 1000")
    size: int = page.evaluate("performance.getEntriesByType('resource').at(-1).encodedBodySize")
    page.close()
    return seconds, size


def main() -> None:
    """Measure several times, and print the median and the best."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("volume", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args()
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        raise SystemExit("Chromium is missing: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory() as folder,
        run_tumorapp() as server,
        sync_playwright() as playwright,
    ):
        volume = Path(folder, "head.nii.gz")
        resample(chosen.volume, volume)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        url = f"http://127.0.0.1:{server.port}/"
        measure(browser, url, volume)  # loads what is loaded once
        start = read_seconds(server.process)
        turns = [measure(browser, url, volume) for _ in range(chosen.turns)]
        used = (read_seconds(server.process) - start) / chosen.turns
        browser.close()
    seconds = [one for one, _ in turns]
    print(f"until shown: {median(seconds):.2f} s, best {min(seconds):.2f} s")
    print(f"of the server's processor: {used:.2f} s; answer: {turns[0][1] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
