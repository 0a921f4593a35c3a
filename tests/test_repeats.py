"""What stands twice is one thing that has not been found yet."""

from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("backbone", "a3d_env", "agents", "scripts")
LINES = 10


def test_no_ten_lines_stand_twice():
    places = defaultdict(list)
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        lines = [(number, line.strip()) for number, line in enumerate(path.read_text().splitlines(), 1)]
        lines = [(number, line) for number, line in lines if line]
        for start in range(len(lines) - LINES + 1):
            text = tuple(line for _, line in lines[start : start + LINES])
            places[text].append(f"{path.relative_to(ROOT)}:{lines[start][0]}")
    assert [found for found in places.values() if len(found) > 1] == []
