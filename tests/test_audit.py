"""The audit of the dependencies, without asking anybody."""

from typing import Any

import pytest

from deploy.audit import report

SOUND = {"name": "flask", "version": "3.1.3", "vulns": []}
UNKNOWN = {"name": "numpy", "skip_reason": "Dependency not found on PyPI"}
WEAK = {
    "name": "pillow",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


@pytest.mark.parametrize(
    ("packages", "good", "said"),
    [
        ([SOUND], True, "1 packages checked, 0 vulnerable."),
        ([SOUND, UNKNOWN], True, "NOT CHECKED: 1 packages"),
        ([UNKNOWN], True, "0 packages checked"),
        ([SOUND, WEAK], False, "pillow 1.0: PYSEC-1, fixed in 1.1"),
        ([WEAK], False, "PYSEC-2, fixed in no version yet"),
    ],
)
def test_what_is_known_is_told(
    packages: list[dict[str, Any]], good: bool, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report("requirements.txt", packages) is good
    assert said in capsys.readouterr().out
