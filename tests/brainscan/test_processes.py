import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from brainscan.processes import spread

PROJECT = Path(__file__).parents[2]

PARENT = """
import multiprocessing, time
from brainscan.processes import end_with_parent

def work(begun):
    end_with_parent()
    begun.set()
    time.sleep(60)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    child = context.Process(target=work, args=(begun,))
    child.start()
    begun.wait()
    print(child.pid, flush=True)
    child.join()
"""


def test_a_process_ends_with_one_that_was_killed(tmp_path: Path) -> None:
    file = tmp_path / "parent.py"
    file.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, str(file)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 30
        while is_running(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_running(child)


def test_few_items_are_held_at_a_time() -> None:
    count = 20 * (os.cpu_count() or 1)
    taken = []

    def take() -> Iterator[int]:
        for number in range(count):
            taken.append(number)
            yield -number

    results = spread(abs, take())
    first = next(results)
    assert len(taken) < count / 2
    assert [first, *results] == list(range(count))


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
