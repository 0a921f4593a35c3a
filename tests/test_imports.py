import ast
import subprocess
import sys
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


def test_a_folder_of_the_users_that_hides_a_package_is_named(tmp_path):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").touch()
    command = [sys.executable, "-c", "import a3d_env"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert f"ImportError: Python finds {tmp_path}/agents in the place of the package agents" in found.stderr
