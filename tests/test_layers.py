"""The layers of the package: a module imports only from lower ones, never sideways."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "fieldmark"
LAYERS = {
    "cores": 0,
    "errors": 0,
    "seeds": 0,
    "hub": 0,
    "recipes": 1,
    "data": 2,
    "transforms": 2,
    "models": 2,
    "runs": 3,
    "evaluation": 4,
    "training": 5,
    "inspection": 5,
    "exporting": 5,
    "planning": 6,
    "reporting": 6,
    "verbs": 7,
    "__init__": 8,
    "cli": 9,
    "__main__": 10,
}


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(module: Path) -> set[str]:
    """First-level rooms of fieldmark that a module imports anywhere, also inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "fieldmark":
                rooms.add(parts[1] if len(parts) > 1 else "__init__")
    return rooms


def test_every_room_has_a_layer() -> None:
    rooms = {room_of(module) for module in PACKAGE.rglob("*.py")}
    assert rooms <= LAYERS.keys()


@pytest.mark.parametrize(
    "module", sorted(PACKAGE.rglob("*.py")), ids=lambda m: str(m.relative_to(PACKAGE))
)
def test_module_imports_only_from_lower_layers(module: Path) -> None:
    own = room_of(module)
    higher = {
        room
        for room in imported_rooms(module) - {own}
        if LAYERS[room] >= LAYERS[own] and module.name != "__init__.py"
    }
    assert not higher, f"{own} (layer {LAYERS[own]}) imports from {higher}"


@pytest.mark.parametrize(
    "statement",
    [
        "import fieldmark.errors, fieldmark.recipes, fieldmark.cli",
        "import fieldmark.data.table, fieldmark.data.images, fieldmark.models.catalog",
        "from fieldmark.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from fieldmark.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_light_modules_import_no_torch(statement: str) -> None:
    heavy = "{'torch', 'torchvision', 'timm', 'pandas', 'sklearn', 'matplotlib'}"
    code = f"{statement}\nimport sys\nassert not {heavy} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
