"""What no module of mono3d does: unpickle, unpack archives, execute text.

ruff's rules S hold the rest (shells, unsafe YAML, `eval`, temporary names, addresses of all
interfaces), each exception with its reason in place.
"""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "mono3d").rglob("*.py"))
UNPICKLING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
REFUSED = {
    "torch.load": "may unpickle",
    "np.load": "may unpickle",
    "numpy.load": "may unpickle",
    "pd.read_pickle": "unpickles",
    "pandas.read_pickle": "unpickles",
    "shutil.unpack_archive": "writes where the archive says",
    "os.system": "starts a shell",
    "os.popen": "starts a shell",
    "tempfile.mktemp": "leaves the name to whoever is quicker",
}
REFUSED_METHODS = {"extractall": "writes where the archive says", "extract": "the same"}
EXECUTING = {"eval", "exec", "compile", "__import__"}
EXECUTES = "search/space.py"
"""A space is a program that the user names, by design."""


def faults(text: str, *, may_execute: bool = False) -> list[str]:
    """What a module's text does that it should not."""
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                found += [n.name for n in names if n.name.split(".")[0] in UNPICKLING]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in UNPICKLING:
                found.append(module)
            case ast.ImportFrom(module=str(module), names=names):
                found += [f"{module}.{n.name}" for n in names if f"{module}.{n.name}" in REFUSED]
            case ast.Call(func=ast.Name(id=name)) if name in EXECUTING and not may_execute:
                found.append(name)
            case ast.Call(func=ast.Attribute(attr=name) as function, keywords=keywords):
                called = ast.unparse(function)
                is_safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True"
                              for k in keywords)  # fmt: skip
                if (called in REFUSED and not is_safe) or name in REFUSED_METHODS:
                    found.append(called)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_unpickles_unpacks_or_executes(path: Path) -> None:
    is_space = path == ROOT / "mono3d" / EXECUTES
    assert faults(path.read_text(), may_execute=is_space) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import os, joblib",
        "from pickle import loads",
        "import cloudpickle.cloudpickle",
        "from torch import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "zipfile.ZipFile(path).extractall(folder)",
        "archive.extract(name)",
        "shutil.unpack_archive(path)",
        "from tempfile import mktemp",
        "eval(text)",
        "exec(text)",
        "__import__(name)",
    ],
)
def test_the_check_sees(text: str) -> None:
    assert len(faults(text)) == 1


def test_weights_alone_may_be_loaded() -> None:
    assert faults("torch.load(path, weights_only=True)") == []


def test_ruff_looks_for_what_is_unsafe() -> None:
    """Tests and benchmarks apart; what is left out of the rules is named with its reason."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert [rule for rule in lint["ignore"] if rule.startswith("S")] == ["S101", "S311", "S603"]
    others = [p for p, rules in lint["per-file-ignores"].items() if "S" in rules]
    assert others == ["tests/**"]
