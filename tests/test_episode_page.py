import dataclasses
import json
import re
import shutil
import subprocess
import time

import numpy as np
import pytest
import torch

import agents
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.controls import ControlAgent
from agents.episodes import Gallery, Names, record_episode
from agents.episodes.page import page_data
from agents.episodes.story import describe_change, describe_episode, percent

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def recorded():
    env = Attention3DVecEnv(Attention3DVectorEnv(num_envs=2))
    agent = agents.make("reinforce", env)
    return record_episode(env, agent, clip=5, names=Names("<b>mine</b>"), deterministic=False)


def gallery_of(episode):
    descriptors = torch.stack([episode.descriptor + distance for distance in (0.1, 0.2, 0.3)])
    picture = np.zeros((32, 16, 3), dtype=np.uint8)
    names = ["</script><script>alert(1)</script>", "b", "c"]
    return Gallery(
        descriptors, np.array([3, 5, -1]), np.ones(3), names, person=5, camera=0, picture=lambda _: picture
    )


def test_the_data_is_the_episodes(recorded):
    data = page_data(recorded, gallery_of(recorded))
    (shown,) = data["episodes"]
    assert [glimpse["bin"] for glimpse in shown["glimpses"]] == recorded.bins.tolist()
    assert [decision["number"] for decision in shown["decisions"]] == [2, 3, 4]
    np.testing.assert_allclose(
        shown["decisions"][1]["truth"], recorded.reward_map(3).probability.ravel(), rtol=1e-5
    )
    assert shown["decisions"][2]["expected"] is None  # V after the last look
    assert shown["glimpses"][3]["top"][0]["probability"] == float(recorded.probabilities.max())
    assert any(one["is_true"] for one in shown["final"])
    assert [one["kind"] for one in shown["ranking"]] == ["wrong", "true", "junk"]
    assert len(data["clip"]["frames"]) == 6
    assert data["reward_unit"].startswith("1 if the most probable identity is the true one")
    json.dumps(data, allow_nan=False)


def test_the_page_needs_nothing_beside_it(recorded, tmp_path):
    page = recorded.to_html(tmp_path / "new" / "page.html", gallery_of(recorded)).read_text()
    addresses = set(re.findall(r"""(?:https?:)?//[\w.-]+/[^\s"'<)]*""", page))
    assert addresses <= {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"}  # names, not places
    assert not re.search(r"<(link|iframe|object|embed)|src=[\"'](?!data:)", page)
    assert "</script><script>alert" not in page
    assert len(page) < 5e6
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


def test_a_page_is_made_in_less_than_three_seconds(recorded, tmp_path):
    started = time.process_time()
    recorded.replay({2: (0, 3, 1)}).to_html(tmp_path / "page.html")
    assert time.process_time() - started < 3  # 0.3 s are usual


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page in")
def test_a_browser_shows_it(recorded, tmp_path):
    changed = recorded.replay({2: (0, 3, 1)})
    page = changed.to_html(tmp_path / "page.html", gallery_of(recorded))
    started = time.monotonic()
    shown = dump(page, tmp_path)
    assert time.monotonic() - started < 20  # the browser's own start included
    assert 'data-ready="yes"' in shown  # the script ran to its end
    assert shown.count('class="card"') == 4
    assert shown.count('class="group"') == 3 + 3 + 2
    assert "set by hand" in shown
    assert "after the change" in shown
    assert "&lt;b&gt;mine&lt;/b&gt; looked 4 times" in shown
    assert shown.count('class="candidate true"') == 2


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page in")
def test_a_click_on_a_map_says_how_to_follow_it(recorded, tmp_path):
    changed = recorded.replay({2: (0, 3, 1)})
    page = changed.to_html(tmp_path / "page.html")
    bin_number = changed.process.bank.grid.index((1, 2, 3))
    click = f"<script>choose({bin_number}, episode().decisions[1])</script></body>"
    page.write_text(page.read_text().replace("</body>", click))
    shown = dump(page, tmp_path)
    assert "--set-glimpse 2=0,3,1 3=1,2,3" in shown  # with what was set by hand before
    found = changed.reward_map(3).probability
    assert f"{percent(float(found[1, 2, 3]))} instead of {percent(float(found[changed.corner(3)]))}" in shown


def dump(page, tmp_path):
    """Return the page's DOM after its scripts."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *flags, profile, "--dump-dom", f"file://{page}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_bank_without_frames_has_no_page(random_case, tmp_path):
    bank, glimpse = random_case()
    env = Attention3DVectorEnv(1, bank, glimpse)
    with pytest.raises(ValueError, match="holds no frames to show"):
        record_episode(env, ControlAgent("centre"), clip=0).to_html(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_the_story_by_hand():
    env = Attention3DVectorEnv(1)
    episode = record_episode(env, ControlAgent("truth"), clip=3, names=Names("truth", list("abcdefgh")))
    lines = describe_episode(episode)
    assert lines[0] == f"truth looked 4 times, and F_c says d ({percent(episode.probability)}), which is right."
    assert lines[1] == "Of the 3 bins that it chose, 3 cover the thing (glimpse 2, 3, 4)."
    assert describe_change(episode) == []
    away = episode.replay({2: (0, 0, 0), 3: (0, 0, 0), 4: (0, 0, 0)})
    assert "None of the 3 bins" in describe_episode(away)[1]
    assert "The best single change: glimpse" in describe_episode(away)[3]
    sample = dataclasses.replace(episode, is_sample=True)
    assert describe_episode(sample)[1] == "The agent explored: this is a sample, not what it does at test time."
    assert "with glimpse 2 where it was, would have come to" in describe_change(sample.replay({2: (0, 0, 0)}))[1]
    (line,) = describe_change(away)
    assert line.startswith("With glimpse 2 at (0, 0, 0) instead of (")
    assert f"gets {percent(away.probability)} instead of {percent(episode.probability)}" in line


def test_percentages():
    assert [percent(share) for share in (0, 0.0123, 0.0994, 0.0996, 0.5, 1)] == [
        "0.0%",
        "1.2%",
        "9.9%",
        "10%",
        "50%",
        "100%",
    ]


def test_the_figure_has_frames_volume_and_maps(recorded):
    figure = recorded.figure()
    kinds = [type(axes).__name__ for axes in figure.axes]
    assert kinds.count("Axes3D") == 1
    assert kinds.count("Axes") == 1 + 3 * 3 + 3  # the frames, three maps for each decision, their colour bars
    figure.draw_without_rendering()
    (volume,) = (axes for axes in figure.axes if type(axes).__name__ == "Axes3D")
    for axis in (volume.xaxis, volume.yaxis, volume.zaxis):  # no label is cut
        box = axis.label.get_window_extent()
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1
    maps = [
        axes.images[0].get_array() for axes in figure.axes if axes.images and axes.images[0].get_array().ndim == 2
    ]
    np.testing.assert_allclose(maps[0], recorded.reward_map(2).probability[0])
