"""Imports go one way, and serving needs no training framework."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
HEAVY = {"jax", "keras", "matplotlib", "pandas", "scipy", "sklearn", "tensorflow", "torch"}


def test_imports_go_one_way() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


PROGRAM = """
import json, sys
from wsgi import create_app
client = create_app().test_client()
scan = sys.stdin.buffer.read()
answer = client.post("/api/predict?heatmap=1", data=scan, content_type="image/jpeg")
page = client.get("/", headers={"Accept": "text/html"})
assert answer.status_code == page.status_code == 200, answer.get_data(as_text=True)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_serving_loads_no_training_framework(run_program: Callable[..., Any], scan: bytes) -> None:
    loaded = set(json.loads(run_program(PROGRAM, scan).stdout))
    assert {"flask", "openvino", "tumorapp"} <= loaded
    assert not loaded & HEAVY


def test_the_flask_command_starts_without_any_runtime(run_program: Callable[..., Any]) -> None:
    program = "import sys; import wsgi; print(*{name.partition('.')[0] for name in sys.modules})"
    done = run_program(program, FLASK_RUN_FROM_CLI="true")
    assert not set(done.stdout.decode().split()) & {*HEAVY, "openvino"}
