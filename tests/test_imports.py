import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ["backbone", "a3d_env", "agents", "scripts"]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room):
    forbidden = set(ROOMS[ROOMS.index(room) + 1 :])
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            wrong = {module.split(".")[0] for module in modules} & forbidden
            assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"
