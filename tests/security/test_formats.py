"""Only formats that cannot run code are read: the sources' syntax trees say so, of every file."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "imp"}
# Its unpickler constructs tensors alone (tests/learn/test_efficientnet_lite.py), from a file whose digest is known.
RESTRICTED = {"bincount/learn/efficientnet_lite.py": {"pickle"}}
UNSAFE_CALLS = {
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
}
# What a call must say, by the end of its name.
MUST_SAY = {"load_model": ("safe_mode", True), "load": ("allow_pickle", False)}
# MLflow's own loaders: of a package of models from code, which holds no pickle (tests/serving/test_model_server.py).
MLFLOWS = {"mlflow.pyfunc"}


def breaches(source, name="x.py"):
    """What in a file could run what it reads."""
    found = []
    tree = ast.parse(source)
    of_mlflow = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in MLFLOWS
        for alias in node.names
    }
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        unsafe = UNSAFE_MODULES - RESTRICTED.get(name, set())
        found += [f"{name}: imports {each}" for each in modules if each.split(".")[0] in unsafe]
        if isinstance(node, ast.Call):
            found += [f"{name}:{node.lineno}: {each}" for each in _wrong_call(node, of_mlflow)]
    return found


def _wrong_call(node, of_mlflow):
    called = ast.unparse(node.func)
    last = called.rpartition(".")[2]
    said = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
    if called in UNSAFE_CALLS or last == "enable_unsafe_deserialization":
        yield f"calls {called}"
    if called.startswith("yaml.") and called != "yaml.safe_load":
        yield f"calls {called}"
    if said.get("shell"):
        yield f"{called} starts a shell"
    if said.get("allow_pickle") or said.get("safe_mode") is False:
        yield f"{called} allows code"
    is_numpy = called in ("np.load", "numpy.load")
    if (last == "load_model" and called not in of_mlflow) or is_numpy:
        flag, value = MUST_SAY[last]
        if said.get(flag) is not value:
            yield f"{called} must say {flag}={value}"


def test_no_source_reads_what_could_run():
    files = [path for folder in ("bincount", "dags") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert files
    found = [each for path in files for each in breaches(path.read_text(), str(path.relative_to(ROOT)))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "pickle.loads(data)",
        "pickle.Unpickler(file).load()",
        "from joblib import load",
        "yaml.load(text)",
        "eval(text)",
        "exec(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.savez(path, allow_pickle=True)",
        "keras.saving.load_model(path)",
        "keras.saving.load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
    ],
)
def test_the_check_bites(source):
    assert breaches(source)


@pytest.mark.parametrize(
    "source", ["re.compile('a')", "yaml.safe_load(text)", "np.load(path, allow_pickle=False)", "json.loads(text)"]
)
def test_the_check_bites_nothing_else(source):
    assert not breaches(source)
