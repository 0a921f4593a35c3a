"""Episodes for other tools: a GIF, a Minari data set (offline reinforcement learning), a rerun recording."""

import shutil
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from PIL import Image

from a3d_env.bank import FeatureBank
from a3d_env.bank_file import save_bank
from a3d_env.render import COLOURS, TRUTH_COLOUR, draw_frame
from agents.episodes.episode import F_C, Episode
from backbone.files import atomic_path
from backbone.flags import environment

GIF_MILLISECONDS = 500  # each frame
ENVIRONMENT = "a3d_env:A3D/Attention3D-v0"
BANK = "bank"


def write_gif(path: Path, episode: Episode) -> None:
    """Write the clip as an animation, with the bins that cover each frame.

    Raises:
        ValueError: the episode's bank holds no frames.
    """
    bank = episode.process.bank
    bins = episode.bins.tolist()
    pictures = [Image.fromarray(draw_frame(bank, 0, frame, bins)) for frame in range(bank.grid.clip_size[0])]
    with atomic_path(path) as partial:
        first, *others = pictures
        first.save(partial, format="GIF", save_all=True, append_images=others, duration=GIF_MILLISECONDS, loop=0)


def write_minari(folder: Path, episodes: Sequence[Episode], dataset_id: str = "a3d/episodes-v0") -> Any:
    """Write episodes as a Minari data set, with a bank of their clips that its environment opens.

    Each episode is played once more in that environment, so that observations, rewards and infos are the
    environment's own, and `dataset.recover_environment()` steps to the same rewards. Clip n of the environment is
    that of the n-th episode: `environment.reset(options={"clip": n})`.

    Args:
        folder: folder in which `bank` and the data set's own folder are made; to read the data set, set the
            variable MINARI_DATASETS_PATH to it, then call `minari.load_dataset(dataset_id)`.
        episodes: episodes of one run, all judged by F_c.
        dataset_id: name of the data set, `[namespace/]name-v<version>`.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        ValueError: Minari is not installed, there are no episodes, the episodes are not of one run, or the folder
            has a data set already.
    """
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise ValueError("a Minari data set needs Minari: pip install 'a3d[export]'") from error
    if not episodes:
        raise ValueError("there are no episodes to write")
    bank_folder = (folder / BANK).resolve()
    save_bank(bank_folder, _joined(episodes), episodes[0].process.glimpse)
    try:
        return _write_dataset(minari, EpisodeBuffer, folder, bank_folder, episodes, dataset_id)
    except BaseException:
        shutil.rmtree(bank_folder)
        raise


def _write_dataset(
    minari: Any, buffer: Any, folder: Path, bank_folder: Path, episodes: Sequence[Episode], dataset_id: str
) -> Any:
    settings: dict[str, Any] = {"bank": str(bank_folder), "reward": episodes[0].process.reward_name}
    env = gymnasium.make(ENVIRONMENT, **settings)
    buffers = []
    for clip, episode in enumerate(episodes):
        observation, info = env.reset(options={"clip": clip})
        observations, infos, actions, rewards, ends = [observation], [_numbers(info)], [], [], []
        # With T of 0 or 1 there is one step, whose action has no effect.
        steps = [decision.action.clamp(-1, 1).numpy() for decision in episode.decisions]
        for action in steps or [np.zeros(3, dtype=np.float32)]:
            observation, reward, terminated, _, info = env.step(action)
            observations.append(observation)
            infos.append(_numbers(info))
            actions.append(action)
            rewards.append(float(reward))
            ends.append(terminated)
        buffers.append(
            buffer(
                id=clip,
                options={"clip": clip},
                observations={key: np.stack([one[key] for one in observations]) for key in observation},
                actions=np.stack(actions),
                rewards=rewards,
                terminations=ends,
                truncations=[False] * len(ends),
                infos=_stacked(infos),
            )
        )
    # Minari finds its data sets by this variable alone.
    with environment(MINARI_DATASETS_PATH=str(folder.resolve())), closing(env), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of missing author and code address
        return minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=env,
            algorithm_name=episodes[0].agent_name,
            description="episodes of recurrent 3D attention (A3D)",
        )


def write_rerun(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes as a rerun recording (.rrd): frames, bins and identifying thing by frame, beliefs by glimpse.

    Raises:
        ValueError: rerun is not installed, or an episode's bank holds no frames.
    """
    try:
        import rerun
    except ImportError as error:
        raise ValueError("a rerun recording needs rerun: pip install 'a3d[export]'") from error
    with atomic_path(path) as partial:
        recording = rerun.RecordingStream("a3d")
        recording.save(str(partial))
        for number, episode in enumerate(episodes):
            _log(rerun, recording, f"episode_{number}", episode)
        recording.flush()
        recording.disconnect()


def _log(rerun: Any, recording: Any, name: str, episode: Episode) -> None:
    bank = episode.process.bank
    if bank.frames is None:
        raise ValueError(f"the bank of {episode.tracklet} holds no frames to show: build it with frames=...")
    grid, bins = bank.grid, episode.bins.tolist()
    for frame in range(grid.clip_size[0]):
        recording.set_time("frame", sequence=frame)
        recording.log(f"{name}/clip", rerun.Image(bank.frames[0, frame]))
        shown = [order for order, index in enumerate(bins) if _covers(grid.frame_ranges[index], frame)]
        boxes = rerun.Boxes2D(
            array=[grid.boxes[bins[order]] for order in shown],
            array_format=rerun.Box2DFormat.XYXY,
            labels=[f"glimpse {order + 1}" for order in shown],
            colors=[COLOURS[order % len(COLOURS)] for order in shown],
        )
        recording.log(f"{name}/clip/bins", boxes)
        truth = [] if bank.truth_boxes is None else bank.truth_boxes[0, frame]
        if seen := [box for box in truth if not np.isnan(box).any()]:
            thing = rerun.Boxes2D(
                array=seen,
                array_format=rerun.Box2DFormat.XYXY,
                labels=["thing to find"] * len(seen),
                colors=[TRUTH_COLOUR] * len(seen),
            )
            recording.log(f"{name}/clip/truth", thing)
        else:
            recording.log(f"{name}/clip/truth", rerun.Clear(recursive=False))
    for number, belief in enumerate(episode.beliefs[:, episode.true_identity].tolist(), 1):
        recording.set_time("glimpse", sequence=number)
        recording.log(f"{name}/probability_of_truth", rerun.Scalars(belief))


def _covers(frames: np.ndarray, frame: int) -> bool:
    return bool(frames[0] <= frame < frames[1])


def _joined(episodes: Sequence[Episode]) -> FeatureBank:
    """Return one bank of all episodes' clips.

    Raises:
        ValueError: the episodes are not of one run.
    """
    for episode in episodes:
        if episode.judge != F_C:
            raise ValueError(
                f"{episode.tracklet} was judged by {episode.judge}, and the data set's environment judges by F_c: "
                "take training tracklets (--train), or clips of a bank"
            )
    banks, first = [episode.process.bank for episode in episodes], episodes[0].process
    weights = first.glimpse.state_dict()
    for episode in episodes:
        other = episode.process.glimpse.state_dict()
        same = other.keys() == weights.keys() and all(torch.equal(other[name], weights[name]) for name in weights)
        alike = episode.process.bank.grid == first.bank.grid and episode.process.reward_name == first.reward_name
        if not (alike and same):
            raise ValueError("the episodes are not of one run: their networks, bins or rewards differ")
    with_frames = all(bank.frames is not None for bank in banks)
    with_truth = all(bank.truth_boxes is not None for bank in banks)
    return FeatureBank(
        first.bank.grid,
        torch.cat([bank.bins for bank in banks]),
        torch.cat([bank.global_feature for bank in banks]),
        torch.cat([bank.identity for bank in banks]),
        [episode.tracklet for episode in episodes],
        np.concatenate([bank.frames for bank in banks]) if with_frames else None,
        np.concatenate([bank.truth_boxes for bank in banks]) if with_truth else None,
    )


def _numbers(info: dict[str, Any]) -> dict[str, Any]:
    """Return the infos that are numbers, with equal keys at each step: values of the end are -1 or 0 before it."""
    kept = {name: np.asarray(info[name]) for name in ("bin", "frames", "box", "clip")}
    if "hit" in info:
        kept["hit"] = np.asarray(info["hit"])
    at_end = {"identity": -1, "probability": 0.0, "true_identity": -1, "is_success": False}
    return kept | {name: np.asarray(info.get(name, value)) for name, value in at_end.items()}


def _stacked(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.stack([info[name] for info in infos]) for name in infos[0]}
