import time
from pathlib import Path

import pytest

from tests.volumes import pack
from tumorapp import create_app


def test_old_jobs_are_erased(
    models_dir: Path, tmp_path: Path, scan: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": tmp_path, "JOB_HOURS": 2})
    monkeypatch.setattr(app.extensions["jobs"], "start", lambda: None)  # no thread erases it
    body = {"data": pack(("a.jpg", scan)), "content_type": "application/zip"}
    job = app.test_client().post("/api/jobs", **body).get_json()["links"]["self"]
    sent = time.time()
    for hours, status in ((1, 200), (3, 404)):
        monkeypatch.setattr(time, "time", lambda later=hours: sent + later * 3600)
        assert app.test_cli_runner().invoke(args=["jobs", "clean-up"]).exit_code == 0
        assert app.test_client().get(job).status_code == status


def test_jobs_that_are_off(tmp_path: Path) -> None:
    runner = create_app({"MODELS_DIR": tmp_path, "JOBS": "off"}).test_cli_runner()
    result = runner.invoke(args=["jobs", "clean-up"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: There are no jobs: TUMORAPP_JOBS is off.")


def test_a_redis_that_is_away(tmp_path: Path) -> None:
    away = {"MODELS_DIR": tmp_path, "REDIS": "redis://127.0.0.1:1/0"}
    runner = create_app(away).test_cli_runner()
    result = runner.invoke(args=["jobs", "clean-up"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: The jobs in Redis and ")
