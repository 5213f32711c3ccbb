import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {path.stem: path for path in ROOT.glob("*.py")}


def imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"app"}))
def test_a_leaf_of_the_root_imports_nothing_of_ours(name):
    assert not set(imports(MODULES[name])) & set(MODULES)


def test_only_app_reads_the_messages():
    assert [name for name, path in MODULES.items() if "messages" in imports(path)] == ["app"]


def test_the_root_imports_no_folder():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert not any(folders & set(imports(path)) - set(sys.stdlib_module_names) for path in MODULES.values())


def test_no_module_of_the_root_loads_tensorflow_when_it_is_imported():
    for name, path in MODULES.items():
        top = {
            node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        names = {alias.name.split(".")[0] for node in top for alias in node.names}
        assert not names & {"tensorflow", "keras", "tf_keras"}, name
