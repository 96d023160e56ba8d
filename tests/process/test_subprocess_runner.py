"""A step runs in a process of its own, and that process ends with whoever asked for it."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bincount.errors import BincountError, ConfigError, DataError, StoreError
from bincount.process.subprocess_runner import run_step
from tests.processes import is_running, wait_until


def program(tmp_path: Path, source: str) -> list[str]:
    """A stand-in for `python -m bincount`, so that nothing heavy is imported."""
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(source))
    return [sys.executable, str(path)]


def test_answer_and_arguments(tmp_path):
    echo = program(tmp_path, "import json, sys; print(json.dumps({'argv': sys.argv[1:]}))")
    hostile = "s3://x; touch /tmp/pwned $(id) 'a\" b"
    answer = run_step("ingest", {"source": hostile, "limit": None, "image_px": 224}, program=echo)
    assert answer == {"argv": ["ingest", f"--source={hostile}", "--image-px=224"]}


def test_log_lines_come_while_the_step_runs_and_the_command_can_be_pasted(tmp_path, caplog):
    waits = program(
        tmp_path,
        f"""
        import sys, time, pathlib
        print("first line", file=sys.stderr, flush=True)
        while not pathlib.Path({str(tmp_path / "seen")!r}).exists():
            time.sleep(0.02)
        print("{{}}")
        """,
    )

    class Touch(logging.Handler):
        def emit(self, record):
            if record.getMessage() == "first line":
                (tmp_path / "seen").touch()

    caplog.set_level(logging.INFO)
    logging.getLogger("bincount.process.subprocess_runner").addHandler(handler := Touch())
    try:
        assert run_step("tune", {"source": "a b"}, program=waits) == {}
    finally:
        logging.getLogger("bincount.process.subprocess_runner").removeHandler(handler)
    assert f"$ {sys.executable} {tmp_path}/program.py tune '--source=a b'" in caplog.messages


@pytest.mark.parametrize(("code", "kind"), [(2, ConfigError), (3, DataError), (4, StoreError), (1, BincountError)])
def test_exit_code_tells_the_kind_of_error(tmp_path, code, kind):
    fails = program(tmp_path, f"import sys; print('limit: must be 1, got 0.', file=sys.stderr); sys.exit({code})")
    with pytest.raises(BincountError, match=r"limit: must be 1, got 0\.") as caught:
        run_step("ingest", {}, program=fails)
    assert type(caught.value) is kind


def test_a_step_killed_by_the_system_says_so(tmp_path):
    dies = program(tmp_path, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(BincountError, match=r"tune: must end with exit code 0, got signal SIGKILL\."):
        run_step("tune", {}, program=dies)


@pytest.mark.parametrize("text", ["", "not json", "[1]"])
def test_anything_but_one_object_is_refused(tmp_path, text):
    with pytest.raises(BincountError, match="must print one JSON object"):
        run_step("tune", {}, program=program(tmp_path, f"print({text!r})"))


def test_what_a_step_leaves_behind_ends_with_it(tmp_path):
    leaves = program(
        tmp_path,
        """
        import json, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(json.dumps({"pid": child.pid}))
        """,
    )
    started = time.monotonic()
    pid = run_step("verify", {}, program=leaves)["pid"]
    wait_until(lambda: not is_running(pid), "the step's child ends with the step")
    assert time.monotonic() - started < 10


# A step with a child of its own that both shrug off SIGTERM, as a model server under load would.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, {on_term})
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({pids!r} + ".tmp", "w").write(f"{{os.getpid()}} {{child.pid}}")
os.rename({pids!r} + ".tmp", {pids!r})
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("sent", "on_term", "within_s"),
    [
        (signal.SIGTERM, "signal.SIG_DFL", 2),
        (signal.SIGTERM, "signal.SIG_IGN", 6),
        (signal.SIGKILL, "signal.SIG_IGN", 2),
    ],
)
def test_a_step_and_its_children_end_with_the_task(tmp_path, sent, on_term, within_s):
    pids = tmp_path / "pids"
    command = program(tmp_path, STUBBORN.format(on_term=on_term, pids=str(pids)))
    source = f"from bincount.process.subprocess_runner import run_step; run_step('tune', {{}}, program={command!r})"
    task = subprocess.Popen(
        [sys.executable, "-c", source],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(pids.exists, "the step starts")
        step, grandchild = map(int, pids.read_text().split())
        assert is_running(step)
        assert is_running(grandchild)
        task.send_signal(sent)
        wait_until(lambda: not is_running(step) and not is_running(grandchild), "both end", within_s)
        _, errors = task.communicate(timeout=5)
    finally:
        task.kill()
        task.wait()
    if sent == signal.SIGTERM:
        assert "tune: must run to its end, got SIGTERM." in errors


def test_a_task_that_died_before_the_step_started_gets_no_step(tmp_path):
    ran = tmp_path / "ran"
    from bincount.process.session_guard import guarded_command

    command = guarded_command([sys.executable, "-c", f"open({str(ran)!r}, 'w')"])
    command[3] = "1"  # not our parent
    subprocess.run(command, check=True, start_new_session=True)
    assert not ran.exists()
