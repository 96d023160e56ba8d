"""Public names say what they are for, and what they take, give and raise: design in docs/architecture.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path for folder in ("bincount", "dags") for path in sorted((ROOT / folder).rglob("*.py"))]


def public(tree, prefix=""):
    """Every public function and class, also the methods of public classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{prefix}{node.name}.")


def faults(source, name="x"):
    """What is wrong with the docstrings of a file."""
    tree = ast.parse(source)
    if not ast.get_docstring(tree) and source.strip():
        yield f"{name}: the module must say what it is"
    for called, node in public(tree):
        where, text = f"{name}:{node.lineno} {called}", ast.get_docstring(node)
        if not text:
            yield f"{where}: must have a docstring"
            continue
        if not re.search(r"[.:)?]$", text.splitlines()[0]):
            yield f"{where}: its first line must be a sentence"
        if isinstance(node, ast.ClassDef) or "Args:" not in text:
            continue
        takes = {each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
        takes |= {each.arg for each in (node.args.vararg, node.args.kwarg) if each}
        said = re.findall(r"^ {4}\*{0,2}(\w+):", text.split("Args:")[1].split("\n\n")[0], re.M)
        if unknown := set(said) - takes:
            yield f"{where}: Args names {sorted(unknown)}, which it does not take"
        if missing := takes - set(said) - {"self", "cls"}:
            yield f"{where}: Args must name {sorted(missing)}"


def test_every_public_name_is_documented():
    found = [each for path in FILES for each in faults(path.read_text(), str(path.relative_to(ROOT)))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "def f(): pass",
        '"""M."""\ndef f(): pass',
        '"""M."""\nclass C:\n    """C."""\n    def f(self): pass',
        '"""M."""\ndef f():\n    """no sentence"""',
        '"""M."""\ndef f(a, b):\n    """F.\n\n    Args:\n        a: One.\n    """',
        '"""M."""\ndef f(a):\n    """F.\n\n    Args:\n        b: One.\n    """',
    ],
)
def test_the_check_bites(source):
    assert list(faults(source))
