"""Imports point down: app, then prediction and explanation, then the two doors to rooms, then config."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = {path.stem for path in ROOT.glob("*.py")}
ROOMS = {"imaging", "inference", "web"}
TOOLS = {"training", "bulk", "pacs", "benchmarks"}
RUN_BY_PATH = ("inference/inspection.py", "inference/keras_engine.py")
ALLOWED = (
    {module: {"config"} for module in MODULES}
    | {"preprocessing": {"config", "imaging"}, "model_loader": {"config", "inference"}}
    | {name: {"config", "preprocessing", "model_loader"} for name in ("prediction", "explanation")}
    | {"app": MODULES | ROOMS}
    | {room: {room, "config"} for room in ROOMS}
    | {tool: {tool} | MODULES - {"app"} for tool in TOOLS}
)


def imports(path, *, only_top=False):
    """Yield the first name of what a file imports, anywhere in it or in its top level alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if only_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def files(name):
    """Return the file of a module, or those of a folder; benchmarks/.cache holds whole environments."""
    if name in MODULES:
        return [ROOT / f"{name}.py"]
    return [path for path in sorted((ROOT / name).rglob("*.py")) if ".cache" not in path.parts]


def test_imports_point_down():
    ours = {*ALLOWED, "tests"}
    found = {(name, to) for name in ALLOWED for path in files(name) for to in imports(path) if to in ours}
    assert not {(name, to) for name, to in found if to not in ALLOWED[name]}


def test_modules_that_run_by_path_import_nothing_of_the_project():
    assert not {to for path in RUN_BY_PATH for to in imports(ROOT / path)} & {*ALLOWED, "tests"}


def test_importing_the_service_does_not_load_tensorflow():
    paths = [path for name in MODULES | ROOMS for path in files(name)]
    assert not {to for path in paths for to in imports(path, only_top=True)} & {"tensorflow", "keras", "tf_keras"}


def test_only_the_tests_of_the_benchmarks_import_benchmarks():
    paths = [path for path in (ROOT / "tests").rglob("*.py") if path.parent.name != "benchmarks"]
    assert not [path.name for path in paths if "benchmarks" in imports(path)]
