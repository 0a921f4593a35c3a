"""`a3d data`: what it prints, where, and its exit status."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone.data.sets.folder import read_folder
from scripts import data as data_command
from scripts.cli import main


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for level in range(30):
        writer.write(np.full((48, 64, 3), 8 * level, dtype=np.uint8))
    writer.release()
    rows = [f"{frame},4,10,10,20,30,1" for frame in range(1, 31)]
    (tmp_path / "gt.txt").write_text("\n".join([*rows, "31,4,10,10,20,30,1", "x"]))
    names = {"video": "v.avi", "tracks": "gt.txt", "out": "my cut"}
    return ["data", "cut", *(part for key, name in names.items() for part in (f"--{key}", str(tmp_path / name)))]


SHORT = ["--chunk-frames", "10", "--gap-frames", "5"]


def test_summary_counts_every_omission_and_says_what_next(arguments, tmp_path, capsys):
    assert main([*arguments, *SHORT]) == 0
    captured = capsys.readouterr()
    # 1-10, gap 11-15, 16-25, gap 26-30
    assert "1 people, 1 of them in two views, 2 tracklets,\n20 frames of the 32 boxes" in captured.out
    assert "1 x row with fewer than 6 columns: line 32\n" in captured.out
    assert "1 x box in a frame beyond the video's end: person 4, frame 31\n" in captured.out
    assert "2 x gap between chunks (gap_frames 5) [10 boxes]: person 4, frame 11, person 4, frame 26\n" in (
        captured.out
    )
    assert captured.out.endswith(f"Next: a3d train --preset street --data 'folder:{tmp_path}/my cut'\n")
    assert "cutting: 100%" in captured.err
    assert len(read_folder(tmp_path / "my cut")) == 2


def test_json_alone_on_standard_output(arguments, capsys):
    assert main([*arguments, *SHORT, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["people"], report["tracklets"], report["frames"], report["boxes"]) == (1, 2, 20, 32)
    assert report["omissions"][0] == {
        "reason": "row with fewer than 6 columns",
        "count": 1,
        "boxes": 1,
        "first": ["line 32"],
    }


def test_overwrite(arguments, tmp_path, capsys):
    assert main([*arguments, *SHORT]) == 0
    assert main([*arguments, *SHORT]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("a3d data cut: error: ")
    assert "not empty" in error
    assert main([*arguments, "--overwrite"]) == 0
    assert len(read_folder(tmp_path / "my cut")) == 1


def test_missing_video(arguments, tmp_path, capsys):
    (tmp_path / "v.avi").unlink()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err == f"a3d data cut: error: there is no video at {tmp_path}/v.avi\n"
    assert captured.out == ""
    assert not (tmp_path / "my cut").exists()


def test_interrupt(arguments, tmp_path, capsys, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(data_command, "_summary", stop)
    assert main(arguments) == 130
    assert "a3d data cut: stopped" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["cut", "--help"]])
def test_help_is_of_all_commands_in_a_line_each_or_of_one(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["data", *argv])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "a3d data cut --video street.avi" in printed
    assert ("Long tracks become several tracklets" in printed) == (argv[0] == "cut")


@pytest.mark.parametrize("argv", [[], ["--video", "v"], ["cutt"]])
def test_the_word_cut_is_needed(argv, capsys):
    assert main(["data", *argv]) == 2
    assert f"the first word has to be cut, check, cache, got {(argv or [''])[0]!r}" in capsys.readouterr().err
