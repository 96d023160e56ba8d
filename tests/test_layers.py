"""Who may import what: the table of docs/architecture.md, held against every import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

INSIDE = {
    "core": {"core"},
    "learn": {"core", "learn"},
    "edge": {"core", "edge"},
    "steps": {"core", "learn", "edge", "steps"},
    "serving": {"core", "learn", "edge", "steps", "serving"},
    "local": {"core", "learn", "edge", "steps", "local"},
    "server": {"core", "learn", "edge", "steps", "local", "server"},
}
OUTSIDE = {
    "core": {"numpy", "google_crc32c"},
    "learn": {"numpy", "tensorflow", "keras", "keras_tuner", "sklearn"},
    "edge": {"boto3", "botocore", "obstore", "mlflow", "pyarrow"},
    "steps": {"numpy", "matplotlib", "rich", "jinja2", "markupsafe", "PIL"},
}
DAG_TOP = {"airflow", "pendulum", "datetime", "__future__", "typing", "step_tasks"}
DAG_TOP |= {"notices", "promotion", "unattended", "importlib", "json", "logging"}
DAG_TASK = {"bincount.steps", "bincount.edge.settings", "bincount.core.errors"}


def imports_of(source: str, package: tuple[str, ...]) -> list[tuple[str, bool]]:
    """Every imported module with whether it is imported at the top level."""
    found = []

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inner = top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if isinstance(child, ast.Import):
                found.extend((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = ".".join(package[: len(package) - child.level + 1]) if child.level else ""
                module = ".".join(filter(None, (base, child.module)))
                package_itself = module in {"bincount", base}
                names = [f"{module}.{alias.name}" for alias in child.names] if package_itself else [module]
                found.extend((name, top) for name in names)
            visit(child, inner)

    visit(ast.parse(source), True)
    return found


def breaches(path: Path, source: str) -> list[str]:
    """The imports of a file that the table forbids."""
    package = path.parent.parts
    wrong = []
    for module, top in imports_of(source, package):
        first = module.split(".")[0]
        if package[0] == "dags":
            allowed = (
                first in DAG_TOP
                if top
                else first in DAG_TOP or any(module == name or module.startswith(name + ".") for name in DAG_TASK)
            )
        elif len(package) < 2 or package[1] not in INSIDE:
            allowed = True
        elif first == "bincount":
            allowed = module.split(".")[1:2] != [] and module.split(".")[1] in INSIDE[package[1]]
        else:
            allowed = package[1] not in OUTSIDE or first in sys.stdlib_module_names or first in OUTSIDE[package[1]]
        if not allowed:
            wrong.append(f"{path}: may not import {module}")
    return wrong


def test_no_file_imports_what_its_layer_may_not():
    files = [path for folder in ("bincount", "dags") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert files
    wrong = [breach for path in files for breach in breaches(path.relative_to(ROOT), path.read_text())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bincount/core/x.py", "import mlflow"),
        ("bincount/core/x.py", "from bincount.edge import store"),
        ("bincount/core/x.py", "from ..edge.store import S3Store"),
        ("bincount/learn/x.py", "def f():\n    from bincount.edge.tracking import log_metrics"),
        ("bincount/edge/x.py", "import tensorflow as tf"),
        ("bincount/edge/x.py", "from bincount import learn"),
        ("bincount/steps/x.py", "from bincount.serving import client"),
        ("bincount/local/x.py", "def f():\n    from bincount.server.doctor import server_findings"),
        ("bincount/serving/x.py", "from bincount.local.stack import HOST"),
        ("dags/x.py", "import bincount.steps.process"),
        ("dags/x.py", "def task():\n    import tensorflow"),
        ("dags/x.py", "def task():\n    from bincount.learn.fit import fit"),
    ],
)
def test_the_check_bites(path, source):
    assert breaches(Path(path), source)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import bincount.steps.ingest", {"tensorflow", "keras"}),
        ("import bincount.cli", {"tensorflow", "keras", "mlflow", "matplotlib", "moto", "boto3", "airflow"}),
    ],
)
def test_light_modules_load_nothing_heavy(statement, forbidden):
    assert not loaded_by(statement) & forbidden


def test_the_heavy_check_bites():
    assert "numpy" in loaded_by("import numpy")
