"""TrainingHealth: a callback that checks whether the agent can be learning, with measures and warnings."""

import logging
import math

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor

from a3d_env.interface import as_numpy
from a3d_env.process import Episodes
from a3d_env.sb3 import Attention3DVecEnv
from agents.measures import Measures, Values
from agents.policy import AttentionPolicy
from agents.reinforce import gradient_norm
from agents.rollout import hit_rate

LOG = logging.getLogger("a3d")

# A hidden unit with a larger absolute value passes on almost no gradient: 1 - 0.99^2 is 2%.
SATURATED = 0.99
# Entropy of the chosen bins, relative to that of the uniform distribution, below which a warning is given.
COLLAPSED = 0.02
# Number of checks in a row that find the same second glimpse in all clips of a batch, before a warning is given.
CHECKS_IN_A_ROW = 3

WARNINGS = {
    "no_gradient": (
        "the locator has had no gradient for {count} batches: it does not learn where to look. Is it frozen, is "
        "policy_weight 0, or are all advantages 0? Compare with the agent `untrained`."
    ),
    "collapsed": (
        "the agent has looked at one and the same bin for {count} batches, whatever the clip. Try a larger "
        "--policy.variance, a smaller --policy.learning-rate, or a reward that tells bins apart "
        "(--attention.reward glimpses)."
    ),
    "same_for_all_clips": (
        "without exploring, the agent's second glimpse has been the same bin in all clips, {count} times in "
        "a row: its choice does not depend on the clip. More training may help, or the recipe strong."
    ),
    "equal_rewards": (
        "all episodes of a batch have had the same reward for {count} batches: the agent can't learn which bins "
        "are better. If all predictions are wrong, or all right, try a graded reward, --attention.reward log_prob."
    ),
}


class TrainingHealth(BaseCallback):
    """Measures an agent's episodes and gradients while it trains, and warns if it can't be learning.

    Measures of the episodes that ended last, logged under `health/`:

    | name | measure |
    |---|---|
    | `gradient_norm_F_a`, `gradient_norm_V` | gradient norm of the last update, for an `AttentionPolicy` |
    | `spread_2` ... `spread_T` | standard deviation of glimpse t's locations in [-1, 1], mean over the axes |
    | `clipped` | share of sampled actions with a coordinate outside of [-1, 1] |
    | `saturated` | share of hidden units with an absolute value above 0.99 |
    | `equal_rewards` | share of episodes with the most common reward: 1 is no signal |
    | `bin_entropy` | entropy of the chosen bins, relative to the uniform distribution's; 0: one bin |
    | `at_centre` | share of chosen bins that are the centre |
    | `different_bins` | different second glimpses without exploring, as a share of the clips |
    | `at_truth` | share of chosen bins that cover the identifying thing, over clips in which it is visible |

    `SharedFeatureCallback` logs the gradient norms of F_o and F_h. Each warning is given once, when its condition
    has held for `patience` batches in a row; `same_for_all_clips`, in three checks that are `patience` batches
    apart.

    Args:
        patience: number of batches before a warning.
        log_every: number of batches whose measures are read together from a GPU, where reading waits for it.

    Attributes:
        values: the measures logged last, by name.
        warned: the names of the warnings given, in `WARNINGS`.

    Raises:
        TypeError: the agent's environment is not an `Attention3DVecEnv`.
    """

    def __init__(self, patience: int = 50, log_every: int = 1):
        super().__init__()
        self.patience = patience
        self.values: dict[str, float] = {}
        self.warned: list[str] = []
        self._bad = dict.fromkeys(WARNINGS, 0)
        self._clipped: list[Tensor] = []
        self._measures = Measures(2 * log_every)  # a batch has two: of its update, and of its episodes
        self._updates = 0
        self._batches = 0

    @property
    def env(self) -> Attention3DVecEnv:
        """The batched environment inside all wrappers."""
        env = self.training_env.unwrapped
        if not isinstance(env, Attention3DVecEnv):
            raise TypeError(f"TrainingHealth needs an Attention3DVecEnv, got {type(env).__name__}")
        return env

    def _on_rollout_start(self) -> None:
        """Log the gradients of the last update and, every `patience` batches, compare second glimpses."""
        self._batches += 1
        if self._batches % self.patience == 0:
            self._look_without_exploring()
        policy, updates = self.model.policy, int(getattr(self.model, "_n_updates", 0))
        if updates == self._updates or not isinstance(policy, AttentionPolicy):
            return
        self._updates = updates
        value = [gradient_norm(part) for part in (policy.value_net, policy.mlp_extractor.value_net)]
        self._note(
            self._measures.add(
                {
                    "gradient_norm_F_a": gradient_norm(policy.action_net),
                    "gradient_norm_V": torch.stack([one.to(policy.device) for one in value]).norm(),
                }
            )
        )

    @property
    def _chooses(self) -> bool:
        """Whether the agent has something to learn: with one glimpse or none it chooses nothing."""
        return self.env.vector_env.glimpse.num_glimpses > 1 and getattr(self.model, "policy_weight", 1) != 0

    def _on_step(self) -> bool:
        actions = torch.as_tensor(self.locals["actions"])
        if isinstance(self.model, OnPolicyAlgorithm) and actions.is_floating_point():
            self._clipped.append((actions.abs() > 1).any(dim=1).double().mean())
        if self.locals["dones"].all():
            finished = self.env.vector_env.finished
            assert finished is not None
            self._look_at(finished, torch.as_tensor(self.locals["rewards"]))
        return True

    def _on_training_end(self) -> None:
        self._note(self._measures.read())

    def _look_without_exploring(self) -> None:
        """Compare the second glimpses that the agent would take, without exploring, in the next clips."""
        vector_env = self.env.vector_env
        episodes = vector_env.episodes
        if not self._chooses or episodes is None or self.model._last_obs is None:
            return
        seen = self.model._last_obs or as_numpy(vector_env.process.observe(episodes))
        num_clips = len(torch.unique(episodes.clip))
        if num_clips < 2:
            return
        actions, _ = self.model.predict(seen, deterministic=True)
        bins = vector_env.process.bank.grid.chosen(torch.as_tensor(actions))
        different = len(torch.unique(bins))
        self._log(different_bins=(different - 1) / (num_clips - 1))
        self._count_bad("same_for_all_clips", different == 1, patience=CHECKS_IN_A_ROW)

    def _look_at(self, episodes: Episodes, rewards: Tensor) -> None:
        process = self.env.vector_env.process
        ordered = torch.round(rewards.float(), decimals=6).sort().values
        counts = torch.searchsorted(ordered, ordered, right=True) - torch.searchsorted(ordered, ordered)
        values: Values = {"equal_rewards": counts.max().double() / len(rewards), "episodes": float(len(rewards))}
        if episodes.hidden.shape[1]:
            values["saturated"] = (episodes.hidden.abs() > SATURATED).float().mean()
        if self._clipped:
            values["clipped"] = torch.stack(self._clipped).mean()
            self._clipped = []
        chosen = episodes.bins[:, 1:]
        if chosen.shape[1]:
            for number, step in enumerate(chosen.unbind(1)):
                values[f"spread_{number + 2}"] = process.locations[step].std(dim=0, correction=0).mean()
            flat, num_bins = chosen.flatten(), process.bank.grid.num_bins
            share = torch.zeros(num_bins, device=flat.device).index_add(0, flat, torch.ones_like(flat).float())
            entropy = torch.special.entr(share / len(flat)).sum() / math.log(max(num_bins, 2))
            at_centre = (chosen == process.bank.grid.centre).float().mean()
            values |= {"bin_entropy": entropy, "at_centre": at_centre}
            if (rate := hit_rate(process.bank, episodes)) is not None:
                values["at_truth"] = rate
            values["several_clips"] = (episodes.clip != episodes.clip[0]).any()
        self._note(self._measures.add(values))

    def _note(self, batches: list[dict[str, float]]) -> None:
        """Log measures in the order of their batches, and count conditions that are bad."""
        for values in batches:
            num_episodes, several = values.pop("episodes", 0), values.pop("several_clips", 0)
            self._log(**values)
            if "gradient_norm_F_a" in values:
                self._count_bad("no_gradient", self._chooses and values["gradient_norm_F_a"] == 0)
            if "equal_rewards" in values:
                self._count_bad("equal_rewards", values["equal_rewards"] == 1 and num_episodes > 1)
            if "bin_entropy" in values:
                self._count_bad("collapsed", values["bin_entropy"] < COLLAPSED and several)

    def _log(self, **values: float) -> None:
        for name, value in values.items():
            self.values[name] = value
            self.logger.record(f"health/{name}", value)

    def _count_bad(self, name: str, is_bad: object, patience: int | None = None) -> None:
        """Count the batches (or checks) in a row with a bad condition; warn once, at `patience` of them."""
        self._bad[name] = self._bad[name] + 1 if is_bad else 0
        patience = patience or self.patience
        if self._bad[name] == patience and name not in self.warned:
            self.warned.append(name)
            LOG.warning(WARNINGS[name].format(count=patience))
