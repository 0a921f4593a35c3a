"""What commands print moves no cursor, whatever files are called."""

import cv2
import numpy as np
import pytest

from backbone.progress import escape_controls, log_line, print_result
from scripts.cli import main


def test_controls_are_shown_and_other_text_stays():
    assert escape_controls("a\x1b[2J\r\x07\x00\x9b\u202eb") == r"a\x1b[2J\r\x07\x00\x9b\u202eb"
    assert escape_controls("Jürgen\t新\n\u200d→ \\x1b") == "Jürgen\t新\n\u200d→ \\x1b"


@pytest.mark.parametrize("printing", [log_line, print_result])
def test_both_streams(printing, capsys):
    printing("\x1b]0;title\x07")
    captured = capsys.readouterr()
    assert captured.out + captured.err == "\\x1b]0;title\\x07\n"


def test_names_in_results_and_errors(tmp_path, capsys):
    folder = tmp_path / "\x1b[31mred"
    for camera in ("1", "2"):
        (folder / "a\x1b[2J" / camera / "1").mkdir(parents=True)
        cv2.imwrite(str(folder / "a\x1b[2J" / camera / "1" / "1.png"), np.zeros((8, 8, 3), np.uint8))
    (folder / "a\x1b[2J" / "1" / "1" / "2.png").write_bytes(b"\x1b")
    assert main(["data", "check", "--data", f"folder:{folder}"]) == 1
    assert main(["data", "check", "--data", f"folder:{folder}/no\x1b[8m"]) == 2
    captured = capsys.readouterr()
    assert r"\x1b[31mred" in captured.out
    assert r"a\x1b[2J" in captured.out
    assert r"no\x1b[8m" in captured.err
    assert "\x1b[2J" not in captured.out
    assert "\x1b[8m" not in captured.err
