"""Imports go one way, and serving needs no training framework."""

import json
import os
import subprocess
import sys
from pathlib import Path

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


def test_serving_loads_no_training_framework(models_dir: Path, scan: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=PROJECT,
        env={**os.environ, "TUMORAPP_MODELS_DIR": str(models_dir)},
        input=scan,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    loaded = set(json.loads(done.stdout))
    assert {"flask", "openvino", "tumorapp"} <= loaded
    assert not loaded & HEAVY


def test_the_flask_command_starts_without_any_runtime(models_dir: Path) -> None:
    program = "import sys; import wsgi; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env={
            **os.environ,
            "FLASK_RUN_FROM_CLI": "true",
            "TUMORAPP_MODELS_DIR": str(models_dir),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {*HEAVY, "openvino"}
