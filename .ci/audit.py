#!/usr/bin/env python3
"""Holds the locked dependencies against the databases of known vulnerabilities, where one can be reached.

pip-audit asks; this only reads its answer, since pip-audit calls a package that it could not look up no finding.
Exceptions stand in .ci/audit-exceptions.txt, one a line: the vulnerability's id, then why it does not concern us.
Exit status: 1 for a vulnerability that is no exception, 0 else, also where no database was reachable.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXCEPTIONS = ROOT / ".ci" / "audit-exceptions.txt"
PIP_AUDIT = "pip-audit==2.10.1"
LOCKS = ("requirements.lock", "requirements-gpu.lock", "requirements-server.lock", "requirements-setup.lock")


def exceptions_of(text: str) -> dict[str, str]:
    """Reason by id.

    Raises:
        ValueError: If an id stands there without a reason.
    """
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            vulnerability, _, reason = line.strip().partition(" ")
            if not reason.strip():
                raise ValueError(f"{EXCEPTIONS.name}: each line must be an id and a reason, got {line!r}. Say why.")
            found[vulnerability] = reason.strip()
    return found


def verdict_of(report: dict | None, exceptions: dict[str, str]) -> tuple[int, str]:
    """Exit status and what to say of pip-audit's report; None where it gave none."""
    if report is None:
        return 0, "no vulnerability database was reachable: pip-audit gave no report, nothing was audited"
    looked_up = [one for one in report["dependencies"] if "skip_reason" not in one]
    skipped = len(report["dependencies"]) - len(looked_up)
    if not looked_up:
        return 0, f"no vulnerability database was reachable: none of {skipped} packages was audited"
    bad, known = [], []
    for one in looked_up:
        for vulnerability in one["vulns"]:
            names = [vulnerability["id"], *vulnerability.get("aliases", [])]
            reason = next((exceptions[name] for name in names if name in exceptions), None)
            line = f"{one['name']} {one['version']}: {', '.join(names)}"
            if reason is None:
                bad.append(f"{line}; mended in {', '.join(vulnerability['fix_versions']) or 'no version yet'}")
            else:
                known.append(f"{line}: {reason}")
    lines = [f"{len(looked_up)} packages audited, {skipped} not found in the database, {len(bad)} vulnerabilities"]
    lines += [f"  {each}" for each in bad] + [f"  excepted: {each}" for each in known]
    return int(bool(bad)), "\n".join(lines)


def audit(lock: Path) -> dict | None:
    """pip-audit's report of a lock, None where it could not make one."""
    uv = shutil.which("uv", path=f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}") or "uv"
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "report.json"
        asked = ["-r", str(lock), "--disable-pip", "--require-hashes", "--progress-spinner=off"]
        command = [uv, "tool", "run", "--from", PIP_AUDIT, "pip-audit", *asked, "-f", "json", "-o", str(answer)]
        try:
            subprocess.run(command, check=False, timeout=300, capture_output=True)
            return json.loads(answer.read_text())
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return None


def main() -> int:
    """Audits every lock."""
    exceptions, worst = exceptions_of(EXCEPTIONS.read_text()), 0
    for name in LOCKS:
        status, text = verdict_of(audit(ROOT / name), exceptions)
        print(f"audit of {name}: {text}")
        worst = max(worst, status)
    return worst


if __name__ == "__main__":
    sys.exit(main())
