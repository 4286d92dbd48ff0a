"""What is built and installed: the wheel, the layers, and every module's public names."""

import ast
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("agent", "bots", "processors", "transports")
MODULES = sorted(
    file
    for layer in LAYERS
    for file in (ROOT / layer).rglob("*.py")
    if "__pycache__" not in file.parts
)
PUBLIC = [file for file in MODULES if not file.name.startswith("_") or file.stem == "__init__"]


def _name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def _imports(file: Path) -> Iterator[str]:
    """Full names of the modules a file imports, those in functions included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# -- the wheel -------------------------------------------------------------------------------


def test_the_wheel_holds_the_tree(tmp_path: Path) -> None:
    # A copy: setuptools puts whatever an earlier build left in the tree into the wheel.
    source = tmp_path / "source"
    source.mkdir()
    for folder in LAYERS:
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / file, source)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out", "."],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    with zipfile.ZipFile(next((source / "out").glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    tree = {
        f"talkpath/{file.relative_to(ROOT)}"
        for layer in LAYERS
        for file in (ROOT / layer).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert names == tree


@pytest.mark.parametrize("layer", LAYERS)
def test_every_package_is_marked_as_typed(layer: str) -> None:
    packages = {file.parent for file in MODULES if layer in file.relative_to(ROOT).parts[0]}
    assert [_name(each) for each in packages if not (each / "py.typed").is_file()] == []


# -- layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "forbidden"),
    [
        ("agent", ("talkpath.bots", "talkpath.processors", "talkpath.transports")),
        ("processors", ("talkpath.bots", "talkpath.transports")),
        ("transports", ("talkpath.bots",)),
    ],
)
def test_a_layer_imports_nothing_above_it(layer: str, forbidden: tuple[str, ...]) -> None:
    wrong = [
        f"{_name(file)} imports {imported}"
        for file in MODULES
        if file.relative_to(ROOT).parts[0] == layer
        for imported in _imports(file)
        if imported.startswith(forbidden)
    ]
    assert wrong == []


def test_one_module_of_agent_may_know_pipecat() -> None:
    """It is the one with Smart Turn's analyser, whose model Pipecat carries."""
    knowing = {
        _name(file)
        for file in MODULES
        if file.relative_to(ROOT).parts[0] == "agent"
        and any(imported.split(".")[0] == "pipecat" for imported in _imports(file))
    }
    assert len(knowing) <= 1, knowing


def test_no_module_is_imported_by_its_folders_name() -> None:
    program = (
        "import sys, talkpath.agent.config, talkpath.bots.cli\n"
        f"print([name for name in {LAYERS!r} if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
    assert not [name for name in LAYERS if name in sys.modules]


def test_the_command_starts_without_heavy_libraries() -> None:
    program = (
        "import sys\n"
        "from talkpath.bots.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pipecat', 'numpy', 'ctranslate2', 'onnxruntime', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines()[-1] == "[]"


# -- public names ----------------------------------------------------------------------------


def _defined(tree: ast.Module) -> Iterator[str]:
    """Names that a module's top level binds."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def _order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that ruff (RUF022) keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("file", PUBLIC, ids=_name)
def test_public_names_are_listed_truthfully(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    listed = next(
        (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and [ast.unparse(target) for target in node.targets] == ["__all__"]
        ),
        None,
    )
    if listed is None and not set(_defined(tree)):
        return  # nothing but a docstring
    assert listed is not None, "there is no __all__"
    assert listed == sorted(listed, key=_order)
    assert [name for name in listed if name not in set(_defined(tree))] == []
    own = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    assert {name for name in own if not name.startswith("_")} <= set(listed)
