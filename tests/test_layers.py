"""Who may import what: the slices of docs/architecture.md in their order, and what tests share, for every import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SLICES = (
    *("process", "store", "tracking", "dataset", "mismatch", "learn", "evaluate", "registry"),
    *("serving", "outcomes", "reconcile", "local", "server"),
)
"""A slice may import itself, those before it and the files of `BASE`."""
BASE = {"errors", "counts", "files", "locks", "config", "schema", "settings", "progress", "client"}
STRANGERS = {"serving": {"outcomes", "reconcile"}, "outcomes": {"serving"}, "reconcile": {"serving"}}
"""Slices that never import each other, whatever their order."""
OWNERS = {
    "tensorflow": {"learn"},
    "keras": {"learn"},
    "keras_tuner": {"learn"},
    "mlflow": {"tracking", "serving"},
    "boto3": {"store"},
    "botocore": {"store"},
    "obstore": {"store"},
    "airflow": {"tracking", "local"},
}
"""Libraries that only these slices import."""
PURE = {"mismatch": {"numpy", "scipy", "sklearn"}}
"""What a slice of pure functions imports besides the standard library."""
DAG_TOP = {"airflow", "pendulum", "datetime", "__future__", "typing", "importlib", "json", "logging"}
DAG_TOP |= {"forms", "notices", "promotion", "step_tasks", "schedules"}
DAG_TOP |= {"bincount.config", "bincount.schema", "bincount.tracking.champion_trigger"}
DAG_TASK = {"bincount.process.subprocess_runner", "bincount.settings", "bincount.errors"}


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
                of_package = module.split(".")[0] == "bincount" and module.count(".") <= 1
                names = [f"{module}.{alias.name}" for alias in child.names] if of_package else [module]
                found.extend((name, top) for name in names)
            visit(child, inner)

    visit(ast.parse(source), True)
    return found


def slice_of(parts: tuple[str, ...]) -> str:
    """The slice of a module below `bincount`; "base" for the files of `BASE`, "" for the entry points."""
    if parts and parts[0] in SLICES:
        return parts[0]
    return "base" if parts and parts[0] in BASE else ""


def is_allowed(importer: str, module: str) -> bool:
    """Whether a slice may import a module."""
    first, *rest = module.split(".")
    if first != "bincount":
        if importer in PURE and first not in sys.stdlib_module_names | PURE[importer]:
            return False
        return first not in OWNERS or importer in OWNERS[first]
    imported = slice_of(tuple(rest))
    if importer == "" or imported == "base":
        return True
    if importer == "base" or imported == "" or imported in STRANGERS.get(importer, ()):
        return False
    return SLICES.index(imported) <= SLICES.index(importer)


def breaches(path: Path, source: str) -> list[str]:
    """The imports of a file that the rules forbid."""
    package, wrong = path.parent.parts, []
    for module, top in imports_of(source, package):
        if package[0] == "dags":
            known = DAG_TOP if top else DAG_TOP | DAG_TASK
            allowed = any(module == name or module.startswith(name + ".") for name in known)
        else:
            allowed = is_allowed(slice_of((*package, path.stem)[1:]), module)
        if not allowed:
            wrong.append(f"{path}: may not import {module}")
    return wrong


def test_no_file_imports_what_its_slice_may_not():
    files = [path for folder in ("bincount", "dags") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert files
    wrong = [breach for path in files for breach in breaches(path.relative_to(ROOT), path.read_text())]
    assert not wrong, "\n".join(wrong)


def test_no_two_files_import_each_other():
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "bincount").rglob("*.py")}
    graph = {
        name: {module for module, _ in imports_of(path.read_text(), tuple(name.split(".")[:-1])) if module in files}
        for name, path in files.items()
    }
    assert circles_of(graph) == []


def circles_of(graph: dict[str, set[str]]) -> list[str]:
    """The files of a graph that are imported, directly or not, by what they import."""
    reached = {}
    for name in graph:
        seen, ahead = set(), list(graph[name])
        while ahead:
            if (module := ahead.pop()) not in seen:
                seen.add(module)
                ahead += graph[module]
        reached[name] = seen
    return sorted(name for name in graph if name in reached[name])


def test_the_check_of_circles_bites():
    assert circles_of({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bincount/mismatch/x.py", "import mlflow"),
        ("bincount/mismatch/x.py", "import rich"),
        ("bincount/dataset/x.py", "from bincount.learn.images import decode"),
        ("bincount/dataset/x.py", "from ..evaluate.metrics import embed"),
        ("bincount/evaluate/x.py", "def f():\n    from bincount.registry import gate"),
        ("bincount/evaluate/x.py", "import tensorflow as tf"),
        ("bincount/registry/x.py", "import boto3"),
        ("bincount/learn/x.py", "def f():\n    import mlflow"),
        ("bincount/reconcile/x.py", "from airflow.sdk import task"),
        ("bincount/settings.py", "from bincount.registry.gate_rules import decide"),
        ("bincount/config.py", "from bincount import cli"),
        ("bincount/reconcile/x.py", "from bincount.serving import limits"),
        ("bincount/outcomes/x.py", "from bincount.serving import limits"),
        ("bincount/outcomes/x.py", "from bincount.reconcile.state import Work"),
        ("bincount/local/x.py", "def f():\n    from bincount.server.doctor import server_findings"),
        ("dags/x.py", "import bincount.process.subprocess_runner"),
        ("dags/x.py", "from bincount.tracking.champion import move_champion"),
        ("dags/x.py", "def task():\n    import tensorflow"),
        ("dags/x.py", "def task():\n    from bincount.learn.train import train"),
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
        ("import bincount.dataset.ingest", {"tensorflow", "keras", "mlflow", "matplotlib"}),
        ("import bincount.evaluate.evaluate, bincount.evaluate.evaluate_source", {"tensorflow", "keras"}),
        (
            "import bincount.evaluate.predict, bincount.learn.predictor, bincount.reconcile.reconcile",
            {"tensorflow", "keras"},
        ),
        ("import bincount.config", {"numpy", "mlflow", "boto3"}),
        ("import bincount.cli", {"tensorflow", "keras", "mlflow", "matplotlib", "moto", "boto3", "airflow"}),
    ],
)
def test_light_modules_load_nothing_heavy(statement, forbidden):
    assert not loaded_by(statement) & forbidden


def test_the_heavy_check_bites():
    assert "numpy" in loaded_by("import numpy")


TEST_MODULE = re.compile(r"\btests(?:\.\w+)*\.(?:test_\w+|conftest)\b")
BARE_TEST_MODULE = re.compile(r"(?:test_\w+|conftest)(?:\.|$)")
BENCHMARK = re.compile(r"(?:^|[\n;])[ \t]*(?:from|import)[ \t]+benchmarks\b")
PRIVATE = re.compile(r"\bbincount\.cli\._\w+")
TESTS_OF_BENCHMARKS = "tests/test_benchmarks.py"
"""The tests of what benchmarks share; the only ones that import it."""


def names_in(source: str, package: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """What a test file imports or reaches through an imported module, and every string that it holds."""
    names, strings, alias_of = set(), set(), {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names.add(alias.name)
                alias_of[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
            alias_of |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and (owner := alias_of.get(ast.unparse(node.value))):
            names.add(f"{owner}.{node.attr}")
        elif isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(name := node.args[1], ast.Constant):
            names.add(f"{alias_of.get(ast.unparse(node.args[0]))}.{name.value}")  # setattr(cli, "main", ...)
    return names, strings


def tangles(path: Path, source: str) -> list[str]:
    """What a test file takes from another test, a conftest, a benchmark or private parts of the command line.

    Strings are searched, too: they hold the programs of child processes.
    """
    names, strings = names_in(source, path.parent.parts)
    wrong = {found[0] for text in names | strings for rule in (TEST_MODULE, PRIVATE) for found in rule.finditer(text)}
    wrong |= {name for name in names if BARE_TEST_MODULE.match(name)}
    if path.as_posix() != TESTS_OF_BENCHMARKS:
        wrong |= {name for name in names if name.split(".")[0] == "benchmarks"}
        wrong |= {found[0].strip() for text in strings for found in BENCHMARK.finditer(text)}
    return [f"{path}: may not use {name}" for name in sorted(wrong)]


def test_no_test_uses_another_test_a_conftest_a_benchmark_or_private_parts():
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert files
    wrong = [tangle for path in files for tangle in tangles(path.relative_to(ROOT), path.read_text())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "module", ["tests.learn.{test_}tune", "tests.{conftest}", "benchmarks.measure", "bincount.cli.{_}options"]
)
@pytest.mark.parametrize(
    "source",
    [
        "import {0}",
        "def f():\n    from {0} import x",
        "from {1} import {2} as y",
        "from {1} import x, {2}",
        'CHILD = """\nimport sys\nfrom {0} import x\n"""',
        "CHILD = 'import sys; import {0}'",
    ],
)
def test_the_check_of_tests_bites(module, source):
    module = module.replace("{", "").replace("}", "")  # without braces the check would find them in this file
    assert tangles(Path("tests/tune/x.py"), source.format(module, *module.rsplit(".", 1)))


@pytest.mark.parametrize(
    "source",
    [
        "from bincount import cli\ncli._options",
        "import bincount.cli as c\nc._options()",
        "from bincount import cli\nmonkeypatch.setattr(cli, '_options', None)",
        "from ..learn import test_tune",
        "from .test_tune import x",
        "import conftest",
    ],
)
def test_the_check_of_tests_bites_in_other_spellings(source):
    assert tangles(Path("tests/tune/x.py"), source)


def test_the_check_of_tests_lets_helpers_and_paths_pass():
    source = "from tests.learn.networks import RECIPE\nHOW = 'tests/learn/test_tune.py::test_x'\nimport bincount.cli"
    assert tangles(Path("tests/tune/x.py"), source) == []
