"""The habits of CONTRIBUTING.md that a machine can check."""

import ast
import functools
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import odernn
import odernn.analysis
import odernn.bench
import odernn.fields
import odernn.interop
import odernn.interop.sklearn
import odernn.tasks
import odernn.train
import odernn.zoo

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "odernn"
MODULES = sorted(PACKAGE.rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PUBLIC = (
    odernn,
    odernn.analysis,
    odernn.bench,
    odernn.fields,
    odernn.interop,
    odernn.interop.sklearn,
    odernn.tasks,
    odernn.train,
    odernn.zoo,
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run `code` in a new interpreter as a user would: default settings, warnings are errors."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_ENABLE")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


# --- Imports run one way -----------------------------------------------------------------------

RANKS = (
    {"_version", "_typing"},
    {"_results", "_files"},
    {"_tableau", "_interpolation", "_operator", "_initial", "_pauli"},
    {"_stability", "_field", "_unroll", "tasks"},
    {"_method", "fields", "_enclosure"},
    {"_cell"},
    {"_layer", "_readout", "_model", "zoo"},
    {"_description", "_storage", "_citation", "analysis", "train"},
    {"interop", "bench", "_design"},
    {"_predictions", "_listing", "_arguments", "_target"},
    {"_certified_layers", "_cli_network"},
    {"_cli_bench", "_cli_certify", "_cli_design", "_cli_stability"},
    {"_cli"},
    {"__main__"},
)
RANK = {part: rank for rank, parts in enumerate(RANKS) for part in parts}
# Arrows inside one rank, each with its reason.
SIDEWAYS = {
    ("_model", "_layer"),  # a model stacks layers
    ("_model", "_readout"),  # and ends in a read-out
    ("_storage", "_description"),  # a file holds an object's description
    ("train", "_storage"),  # a run saves its model
    ("train", "analysis"),  # training keeps certificates, and measures
}


def imported_parts(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    """Parts of odernn that a module in `package` imports, at its top or inside a function.

    "" stands for odernn itself.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = above + tuple(node.module.split(".") if node.module else ())
            # `from odernn import x` imports the part x.
            names = [(*module, a.name) if module == ("odernn",) else module for a in node.names]
        else:
            continue
        yield from (name[1] if len(name) > 1 else "" for name in names if name[0] == "odernn")


def runs_back(importer: str, imported: str) -> bool:
    if importer == imported or (importer, imported) in SIDEWAYS:
        return False
    return imported not in RANK or RANK[imported] >= RANK[importer]


def arrows() -> Iterator[tuple[Path, str, str]]:
    for path in MODULES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts == ("__init__",):
            continue
        package = ("odernn", *parts[:-1])
        for imported in imported_parts(tree_of(path), package):
            yield path, parts[0], imported


def test_every_module_has_a_rank():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert parts - {"__init__"} <= RANK.keys(), "give the new module a place in RANKS"


def test_imports_run_one_way():
    back = [
        f"{name_of(p)} imports {i or 'odernn'}" for p, part, i in arrows() if runs_back(part, i)
    ]
    assert not back, back


@pytest.mark.parametrize(
    ("importer", "code", "allowed"),
    [
        ("fields", "from odernn._field import AbstractField", True),
        ("fields", "from .._method import RK4", False),
        ("fields", "from odernn import _method", False),
        ("_unroll", "def f():\n    from odernn._cell import Cell", False),
        ("_unroll", "import odernn._cell", False),
        ("_cell", "import odernn", False),
        ("train", "from odernn._storage import save", True),
        ("_storage", "from odernn.train import fit", False),
    ],
)
def test_the_import_rule_itself(importer, code, allowed):
    (imported,) = imported_parts(ast.parse(code), ("odernn", importer))
    assert runs_back(importer, imported) is not allowed


@pytest.mark.parametrize("kind", sorted({type(m) for m in odernn.METHODS.values()}, key=repr))
def test_a_method_documents_what_it_is(kind):
    text = kind.__doc__.lower()
    for words in ("order", "stage|evaluation", "memory|carries", "cost", "reference:"):
        assert re.search(words, text), words


HEAVY = {
    "aeon",
    "diffrax",
    "flax",
    "matplotlib",
    "optimistix",
    "orbax",
    "pandas",
    "pennylane",
    "rich",
    "sklearn",
    "torch",
    "tyro",
}


def test_import_is_light_and_changes_no_setting(tmp_path):
    code = f"""
import os, sys, warnings
import jax, equinox, jaxtyping, numpy
def settings():
    # JAX's own values, the environment, NumPy's printing and error states, warning filters.
    return (dict(jax.config.values), dict(os.environ), numpy.geterr(), numpy.get_printoptions(),
            list(warnings.filters))
before = settings()
import odernn
heavy = sorted({HEAVY!r} & sys.modules.keys())
assert not heavy, f"import odernn also imports {{heavy}}"
import odernn.analysis, odernn.fields, odernn.interop, odernn.tasks, odernn.zoo
assert settings() == before, "import odernn changes a global setting"
"""
    result = run_python(code, tmp_path)
    assert result.returncode == 0, result.stderr


# --- Sizes and names ---------------------------------------------------------------------------

MODULE_LINES = 500
FUNCTION_LINES = 80


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring not counted: that may be as long as it needs."""
    first = function.body[0]
    text = ast.get_docstring(function) is not None
    return function.end_lineno - function.lineno + 1 - text * (first.end_lineno - first.lineno + 1)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_budgets(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MODULE_LINES, f"{lines} lines: split the module"
    functions = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {f.name: lines_of(f) for f in functions if lines_of(f) > FUNCTION_LINES}
    assert not long, f"more than {FUNCTION_LINES} lines: {long}"


def test_no_module_without_a_subject():
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    found = [
        name_of(path)
        for path in PACKAGE.rglob("*")
        if path.stem.strip("_") in vague and "__pycache__" not in path.parts
    ]
    assert not found, found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_unpickles_or_executes(path):
    unsafe_modules = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    unsafe_calls = {"eval", "exec", "compile", "__import__"}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            imported = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported = {(node.module or "").split(".")[0]}
        else:
            imported = set()
        assert not imported & unsafe_modules, f"line {node.lineno}"
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            assert called not in unsafe_calls, f"line {node.lineno}: {called}"
            allow = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            assert all(isinstance(v, ast.Constant) and v.value is False for v in allow)


# --- Documentation -----------------------------------------------------------------------------


def described_members(cls: type) -> Iterator[tuple[str, object]]:
    """Public methods and properties that `cls` itself brings."""
    kinds = (property, classmethod, staticmethod, functools.cached_property)
    # What a base declares, it also describes.
    declared = {name for base in cls.__mro__[1:] for name in vars(base).get("__annotations__", {})}
    for name, value in vars(cls).items():
        if name.startswith("_") or name in declared:
            continue
        if callable(value) or isinstance(value, kinds):
            yield name, getattr(cls, name)


def undocumented(module: ModuleType) -> Iterator[str]:
    """Public names of `module`, and members of its classes, without a text."""
    for name, value in vars(module).items():
        home = getattr(value, "__module__", None) or ""
        if name.startswith("_") or not home.startswith("odernn") or not callable(value):
            continue
        text = value.__doc__ or ""
        # A dataclass without a docstring gets its signature for one.
        if not text.strip() or text.startswith(f"{name}("):
            yield f"{module.__name__}.{name}"
        if inspect.isclass(value):
            for member, described in described_members(value):
                if not inspect.getdoc(described):
                    yield f"{module.__name__}.{name}.{member}"


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_name_is_documented(module):
    assert module.__doc__, module.__name__
    missing = list(undocumented(module))
    assert not missing, missing


def test_every_module_says_what_it_is_for():
    missing = [
        name_of(path)
        for path in MODULES
        if path.name not in ("_version.py", "__main__.py") and not ast.get_docstring(tree_of(path))
    ]
    assert not missing, missing


def python_blocks(text: str) -> list[tuple[int, str]]:
    """The ```python blocks of a Markdown text with the line each begins at."""
    blocks = re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(text[: block.start(1)].count("\n"), block[1]) for block in blocks]


def test_python_blocks_are_found():
    text = (
        "a\n```python\nx = 1\n```\n```python no-run\ny\n```\n```bash\nz\n```\n```python\nx\n```\n"
    )
    assert python_blocks(text) == [(2, "x = 1\n"), (11, "x\n")]


@pytest.mark.parametrize(
    "path", [p for p in DOCUMENTS if python_blocks(p.read_text(encoding="utf-8"))], ids=name_of
)
def test_documents_run(path, tmp_path):
    # Blank lines keep the line numbers of the document in the traceback.
    script = ""
    for start, block in python_blocks(path.read_text(encoding="utf-8")):
        script += "\n" * (start - script.count("\n")) + block
    result = run_python(f"exec(compile({script!r}, {name_of(path)!r}, 'exec'))", tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    files = [t for t in targets if not re.match(r"[a-z]+:", t)]
    missing = [t for t in files if not (path.parent / t).exists()]
    assert not missing, missing


# --- One truth ---------------------------------------------------------------------------------


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version():
    assert importlib.metadata.version("odernn") == odernn.__version__
    assert re.findall(r"^version: (\S+)$", read("CITATION.cff"), re.MULTILINE) == [
        odernn.__version__
    ]
    newest = re.findall(r"^## \[(\d\S*)\]", read("CHANGELOG.md"), re.MULTILINE)[0]
    assert newest == odernn.__version__


def test_every_dependency_has_its_reason():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[<>=~! ]", line)[0] for group in groups for line in group} - {"odernn"}
    listed = set(re.findall(r"^\| `([^`]+)` \|", read("CONTRIBUTING.md"), re.MULTILINE))
    assert listed == names


def test_ci_runs_the_readme_command():
    command = 'pip install -e ".[dev]" && pytest'
    assert command in read("README.md").splitlines()
    assert read(".ci/run").splitlines()[-1] == command
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
