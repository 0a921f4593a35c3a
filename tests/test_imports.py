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
        wrong = {module.split(".")[0] for module in imported(path)} & forbidden
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_no_command_imports_another():
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        own = path.relative_to(ROOT / "scripts").parts[0].removesuffix(".py")
        others = {module.split(".")[1] for module in imported(path) if module.startswith("scripts.")}
        wrong = others - {own, "options"}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}: what commands share belongs into agents/runs"


def imported(path: Path) -> list[str]:
    """Return the modules that a file imports, also inside its functions."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return modules


@pytest.mark.parametrize("name", ["agents/__init__.py", "agents.py"])
def test_what_of_the_users_hides_a_package_is_named(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    command = [sys.executable, "-c", "import a3d_env"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    hiding = tmp_path / name.removesuffix("/__init__.py")
    assert f"ImportError: Python finds {hiding} in the place of the package agents" in found.stderr
