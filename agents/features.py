"""SharedFeatureCallback: any stable-baselines3 agent and the representation, trained jointly (section III-C)."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.process import Episodes
from a3d_env.rewards import Verdict
from a3d_env.sb3 import Attention3DVecEnv
from agents.joint_config import JointConfig
from agents.joint_optimizer import JointOptimizer
from agents.judges import HeldOutJudges, glimpse_loss
from agents.measures import Measures, Values
from agents.reinforce import REINFORCE, gradient_norm
from agents.rollout import hit_rate
from backbone.data.loader import ClipBatch
from backbone.device import read
from backbone.distributed import gather
from backbone.glimpse import describe
from backbone.losses import center_loss, identity_loss, triplet_loss
from backbone.representation import Representation


class SharedFeatureCallback(BaseCallback):
    """Gives the environment features of the representation, and trains the representation on the bins visited.

    The steps for one batch, in order:

    1. `_on_rollout_start`: draw the batch, run the backbone, hand the environment every bin's feature.
    2. The agent plays M episodes on each clip.
    3. `_on_rollout_end`: cross entropy, triplet loss and, if asked for, glimpse loss over the bins that were
       visited, and their gradients through F_c, F_h, F_o and the backbone, which are kept.
    4. The agent's own `train()`: `REINFORCE` adds the policy gradient of F_o and F_h to those kept (unless
       `gradient_to_glimpse` is False), and updates F_a and V.
    5. `_on_rollout_start` of the next batch: the representation is updated.

    So the parameters are updated as by one loss over the whole graph. In a group of processes
    (`backbone.distributed`) each has its own batch, and the loss is that over all of them.

    On-policy and off-policy algorithms both work, as finished episodes are counted rather than rollouts.

    **Replay buffers.** An off-policy algorithm's replay buffer holds observations and rewards that were computed
    by the representation of their time; they are not computed again. With N clips a batch and M episodes of T - 1
    steps, a buffer of `buffer_size` transitions spans buffer_size / (N M (T - 1)) batches: with the registry's
    10,000, 32 clips and 4 glimpses, 104 batches of one episode a clip, or 13 of eight. Over so few batches a
    representation at a learning rate of 1e-3 changes little; with the usual 10^6 the agent would learn from
    outdated features. On-policy algorithms learn from the features of the current batch alone.

    Args:
        representation: the backbone and the glimpse network; the environment must have the same glimpse network
            object.
        batches: endless iterator over batches, at the training's current position.
        labels: the index of each person among F_c's outputs, by person id.
        grid: the grid of bins.
        config: learning rate, losses, episodes per clip.
        num_batches: number of batches in the whole training, which the cosine schedule needs.
        fold: fold of each training tracklet, if judges pay that did not see it (`agents.judges.fold_of_each`).
        log_every: number of batches whose measures are read together from a GPU, where reading waits for it. A
            loss that is not finite is found then.

    Attributes:
        judges: the judges that pay, if F_c does not.
        step: number of batches trained on so far.
        measured: measures of the last batch, by name, numbers and tensors without axes: losses that have a weight,
            accuracy, reward; if the identifying thing is known, also the hit rate, and that of random bins.

    Raises:
        TypeError: the agent's environment is not an `Attention3DVecEnv`.
        ValueError: the environment has another glimpse network than the representation, or its size is not the
            batch's clips times the episodes per clip; the glimpse loss has a weight but there is no glimpse; the
            cosine schedule lacks `num_batches`; or a loss is not finite.
    """

    def __init__(
        self,
        representation: Representation,
        batches: Iterator[ClipBatch],
        labels: dict[int, int],
        grid: BinGrid,
        config: JointConfig,
        num_batches: int | None = None,
        fold: Tensor | None = None,
        log_every: int = 1,
    ):
        super().__init__()
        if config.glimpse_weight and representation.glimpse.num_glimpses == 0:
            raise ValueError("there is no glimpse to weigh: with num_glimpses = 0, glimpse_weight has to be 0")
        self.representation = representation
        self.batches = batches
        self.labels = labels
        self.grid = grid
        self.config = config
        self.judges = None if fold is None else HeldOutJudges(representation.glimpse, fold)
        more = [] if self.judges is None else list(self.judges.parameters())
        self.optimizer = JointOptimizer(representation, config, len(labels), num_batches, more)
        self.step = 0
        self.measured: Values = {}
        self._measures = Measures(log_every)
        self._norms: Values = {}  # gradient norms of the update before
        self._bank: FeatureBank | None = None
        self._fold = torch.empty(0)  # of each clip of the batch
        self._pooled = torch.empty(0)  # features of the batch, with the graph back to the pixels
        self._finished: list[Episodes] = []
        self._step_is_pending = False

    @property
    def env(self) -> Attention3DVecEnv:
        """The batched environment inside all wrappers."""
        env = self.training_env.unwrapped
        if not isinstance(env, Attention3DVecEnv):
            raise TypeError(f"joint training needs an Attention3DVecEnv, got {type(env).__name__}")
        return env

    def _on_training_start(self) -> None:
        if self.env.vector_env.glimpse is not self._glimpse:
            raise ValueError(
                "the environment has a glimpse network of its own: make it with representation.glimpse, the same "
                "object, so that the agent uses the network that is trained"
            )

    def _on_rollout_start(self) -> None:
        self.finish_step()
        if self._bank is None:
            self._show(next(self.batches))

    def _on_step(self) -> bool:
        if self.locals["dones"].all():
            finished = self.env.vector_env.finished
            assert finished is not None
            self._finished.append(finished)
        return True

    def _on_rollout_end(self) -> None:
        if self._finished:
            self._learn_from(self._finished)
            self._bank, self._finished = None, []

    def _on_training_end(self) -> None:
        self.finish_step()
        self._check(self._measures.read())

    def finish_step(self) -> None:
        """Let the optimiser take the step whose gradients are waiting, if one is."""
        if not self._step_is_pending:
            return
        self.optimizer.average_gradients()
        for name, module in (("F_o", self._glimpse.embed_observation), ("F_h", self._glimpse.embed_hidden)):
            self._norms[f"gradient_norm_{name}"] = gradient_norm(module)
        self.optimizer.step()
        self._step_is_pending = False
        self.step += 1

    def take_average(self) -> None:
        """Replace the representation's weights by their moving average, if there is one, for the test."""
        self.optimizer.take_average()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint needs to continue the training, taken between two steps."""
        self._check(self._measures.read())
        return {
            **self.optimizer.state_dict(),
            "step": self.step,
            "representation": self.representation.state_dict(),
            **({} if self.judges is None else {"judges": self.judges.state_dict()}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.step = state["step"]
        self.representation.load_state_dict(state["representation"])
        if self.judges is not None:
            self.judges.load_state_dict(state["judges"])
        self.optimizer.load_state_dict(state)

    @property
    def _glimpse(self) -> Any:
        return self.representation.glimpse

    def _show(self, batch: ClipBatch) -> None:
        """Run the backbone on a batch and begin an episode on each clip, M times."""
        self.representation.train()
        feature_map = self.representation.feature_map(batch.clip, batch.flow)
        self._pooled = self.representation.pool(feature_map)
        identity = torch.tensor([self.labels[person] for person in batch.person.tolist()])
        device = feature_map.device
        self._bank = bank = FeatureBank.from_feature_map(
            feature_map,
            self.grid,
            identity.to(device, non_blocking=True),
            batch.source,
            truth_boxes=batch.truth_boxes,
            global_feature=self.representation.neck(self._pooled),
        )
        env, per_clip = self.env, self.config.episodes_per_clip
        if env.num_envs != len(bank) * per_clip:
            raise ValueError(
                f"a batch of {len(bank)} clips with {per_clip} episodes each needs an environment of "
                f"{len(bank) * per_clip}, got {env.num_envs}"
            )
        env.set_bank(bank.detached())
        if self.judges is not None:
            self._fold = self.judges.fold[batch.tracklet.to(self.judges.fold.device)]
            env.vector_env.process.pay_by(self.judges.networks, self._fold)
        if isinstance(self.model, REINFORCE) and self.model.tensor_env is not None:
            env.vector_env.begin(torch.arange(len(bank), device=device).repeat_interleave(per_clip))
            return
        env.set_options([{"clip": number // per_clip} for number in range(env.num_envs)])
        self.model._last_obs = self.training_env.reset()  # type: ignore[assignment]
        if (normalizer := self.model.get_vec_normalize_env()) is not None:
            self.model._last_original_obs = normalizer.get_original_obs()  # a replay buffer keeps these

    def _learn_from(self, finished: Sequence[Episodes]) -> None:
        """Compute the supervised losses over the bins visited (equations 14 and 15) and their gradients."""
        bank = self._bank  # with the graph back to the pixels
        assert bank is not None
        clip = torch.cat([episodes.clip for episodes in finished])
        visited = torch.cat([episodes.bins for episodes in finished])  # (N, T)
        identity = bank.identity[clip]

        locations = self.env.vector_env.process.locations[visited]
        hidden = self._glimpse.unroll(bank.bins[clip[:, None], visited], locations)
        global_feature = bank.global_feature[clip]
        descriptor = describe(global_feature, hidden)
        logits = self._glimpse.identify(descriptor)
        identity_part = identity_loss(logits, identity, label_smoothing=self.config.label_smoothing)
        on_clips = self.config.triplet_on == "global"  # one row a clip, not an episode
        parts = {"identity_loss": identity_part}
        loss = identity_part
        if self.config.triplet_weight:
            parts["triplet_loss"] = triplet_loss(
                gather(self._pooled if on_clips else descriptor),
                gather(bank.identity if on_clips else identity),
                margin=self.config.margin,
                mining=self.config.mining,
                distance=self.config.triplet_distance,
            )
            loss = loss + self.config.triplet_weight * parts["triplet_loss"]
        if self.config.center_weight:
            parts["center_loss"] = center_loss(self._pooled, bank.identity, self.optimizer.centers)
            loss = loss + self.config.center_weight * parts["center_loss"]
        if self.config.glimpse_weight:
            parts["glimpse_loss"] = glimpse_loss(self._glimpse, global_feature, hidden, identity, self.config)
            loss = loss + self.config.glimpse_weight * parts["glimpse_loss"]
        if self.judges is not None:
            loss = loss + self.judges.loss(self._fold[clip], global_feature, hidden, identity, self.config)
        verdict = Verdict(logits.detach(), identity, global_feature.detach(), hidden.detach(), self._glimpse)
        self.measured = {
            **{name: part.detach() for name, part in parts.items()},
            "accuracy": (logits.argmax(1) == identity).float().mean(),
            "reward": self.env.vector_env.process.pay(Episodes(clip, visited, hidden.detach()), verdict).mean(),
        }
        if (rate := hit_rate(bank, Episodes(clip, visited, hidden))) is not None:
            assert bank.hits is not None
            chance = float(bank.hits[bank.hits.any(axis=1)].mean())
            self.measured |= {"hit_rate": rate, "chance_of_hits": chance}
        self._check(self._measures.add({**self._norms, **self.measured, "loss": loss.detach(), "step": self.step}))
        self.optimizer.zero_grad()
        loss.backward()
        self._step_is_pending = True

    @property
    def metrics(self) -> dict[str, float]:
        """The measures of the last batch (`measured`), read."""
        return read(self.measured)

    def _check(self, batches: list[dict[str, float]]) -> None:
        """Log the measures of batches; refuse a loss that is not finite."""
        for batch in batches:
            step, loss = int(batch.pop("step")), batch.pop("loss")
            if not math.isfinite(loss):
                raise ValueError(
                    f"the loss became {loss} at step {step}: is the learning rate "
                    f"{self.config.learning_rate} too high, or does a weights file hold NaN?"
                )
            for name, value in batch.items():
                self.logger.record(f"train/{name}", value)
