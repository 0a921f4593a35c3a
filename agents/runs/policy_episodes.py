"""The episodes of an agent that was trained alone, on a bank (`a3d policy`)."""

from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecMonitor

from a3d_env.sb3 import Attention3DVecEnv, process_of
from a3d_env.vector import Attention3DVectorEnv
from agents.controls import draws
from agents.episodes.episode import Episode
from agents.episodes.gallery import Gallery
from agents.episodes.record import Names, record_episode
from agents.rollout import Agent, at_test, follow
from agents.runs.bank_policy import POLICY, load_policy, read_policy, split_clips
from agents.runs.own import check_own_code
from agents.runs.picks import Outcome, Pick, Side


class PolicyEpisodes:
    """Records episodes on the clips of a policy's bank, judged by its F_c.

    Args:
        folder: folder of the policy.
        bank: bank of the clips; by default the one that the policy was trained on.
        agent: agent that chooses the bins in the policy's place; None for the policy itself.
        agent_name: name of that agent.

    Raises:
        ValueError: the folder holds no policy, or the bank can't be used.
    """

    def __init__(
        self, folder: Path, bank: Path | None = None, agent: Agent | None = None, agent_name: str | None = None
    ):
        config, _ = read_policy(folder)
        check_own_code(config, folder / POLICY)
        env = Attention3DVectorEnv(
            1,
            bank or config["bank"],
            reward=config["reward"],
            overview=config["overview"],
            exact=True,
            shows_looked=config["policy"].get("inhibition", 0) > 0,
        )
        self.env = VecMonitor(Attention3DVecEnv(env))
        self.process = process_of(self.env)
        if self.process.bank.frames is None:
            raise ValueError(
                f"the bank {bank or config['bank']} holds no frames to show: make it with a3d bank --frames"
            )
        self.agent = agent or load_policy(folder, self.env)
        self.agent_name = agent_name or config["agent"]
        self.held_out_share: float = config["held_out"]

    def find(self, side: Side, name: str) -> Pick:
        """Return the clip of that number.

        Raises:
            ValueError: there is none, or a tracklet is asked for.
        """
        if side != "clip":
            raise ValueError(f"a policy's episodes are on a bank's clips: choose them by --clip, not by --{side}")
        count = len(self.process.bank)
        if not (name.isdecimal() and int(name) < count):
            raise ValueError(f"there is no clip {name}: the bank's are numbered 0 to {count - 1}")
        return Pick("clip", int(name), f"clip-{int(name)}")

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes of the episodes on the clips that the policy was not trained on.

        Raises:
            ValueError: the agent chooses bins at random, so that an episode shown would be another one.
        """
        if draws(at_test(self.agent)):
            raise ValueError(f"{self.agent_name} chooses bins at random: choose its episodes by --clip")
        _, held_out = split_clips(self.process.bank.tracklet, self.held_out_share)
        episodes = follow(at_test(self.agent), self.process, torch.from_numpy(held_out))
        verdict = self.process.verdict(episodes)
        shares = verdict.logits.softmax(1)
        truth = shares.gather(1, verdict.truth[:, None]).squeeze(1)
        rows = zip(held_out.tolist(), truth.tolist(), (shares.argmax(1) == verdict.truth).tolist(), strict=True)
        return [
            Outcome(Pick("clip", clip, f"clip-{clip}"), probability, is_right, float(share.max()))
            for (clip, probability, is_right), share in zip(rows, shares, strict=True)
        ]

    def record(self, pick: Pick, *, deterministic: bool = True, seed: int = 0) -> tuple[Episode, Gallery | None]:
        """Record the episode on a clip; there is no gallery."""
        names = [f"identity {number}" for number in np.arange(self.process.glimpse.num_identities)]
        episode = record_episode(
            self.env,
            self.agent,
            clip=pick.number,
            deterministic=deterministic,
            seed=seed,
            names=Names(self.agent_name, names),
        )
        return episode, None
