"""The audit of dependencies: findings fail, exceptions do not, and what was not looked up is not called sound."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)

FOUND = {"name": "jinja2", "version": "2.4.1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": []}]}
SOUND = {"name": "numpy", "version": "2.4", "vulns": []}
SKIPPED = {"name": "mlflow", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("report", "exceptions", "status", "words"),
    [
        (None, {}, 0, "no vulnerability database was reachable"),
        ({"dependencies": [SKIPPED, SKIPPED]}, {}, 0, "none of 2 packages was audited"),
        ({"dependencies": [SOUND, SKIPPED]}, {}, 0, "1 packages audited, 1 not found in the database, 0 vuln"),
        ({"dependencies": [FOUND, SOUND]}, {}, 1, "jinja2 2.4.1: PYSEC-1, CVE-1; mended in no version yet"),
        ({"dependencies": [FOUND]}, {"CVE-1": "only templates of ours"}, 0, "excepted: jinja2"),
    ],
)
def test_verdicts(report, exceptions, status, words):
    got, text = audit.verdict_of(report, exceptions)
    assert got == status
    assert words in text


def test_each_exception_has_a_reason():
    audit.exceptions_of(audit.EXCEPTIONS.read_text())
    assert audit.exceptions_of("# x\nCVE-1 only on Windows\n") == {"CVE-1": "only on Windows"}
    with pytest.raises(ValueError, match="must be an id and a reason"):
        audit.exceptions_of("CVE-1\n")
