"""Judges that pay out of sample: classifiers in F_c's place that never saw the clip that they pay an episode on.

F_c remembers the clips that it was trained on, so that what pays there need not identify anybody in a clip that it
has not seen. So the training tracklets are divided into two folds; each of two judges is trained on one fold, and
pays the episodes on the other (cross-fitting). The features that the judges read, those of the backbone, F_o and
F_h, are trained on all clips.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

from agents.joint_config import JointConfig, PaidBy
from backbone.data.tracklet import Tracklet, place_of
from backbone.distributed import share_of_mean, world_size
from backbone.glimpse import GlimpseNetwork, describe
from backbone.losses import identity_loss

NUM_FOLDS = 2


def fold_of_each(tracklets: Sequence[Tracklet], paid_by: PaidBy) -> Tensor | None:
    """Return the fold of each training tracklet, int64 (num_tracklets,), 0 or 1; None if F_c pays for all.

    A person of whom there is one tracklet, or one camera, is in fold 2: both judges learn from it, and F_c pays.

    Args:
        tracklets: the training tracklets.
        paid_by: `other_tracklets`: a person's tracklets are of the folds by turns, all that are made of the same
            frames in the same; `other_cameras`: those of each of the person's cameras are.
    """
    if paid_by == "f_c":
        return None
    of_people: dict[int, dict[Hashable, int]] = {}
    folds = []
    for tracklet in tracklets:
        known = of_people.setdefault(tracklet.person, {})
        part = tracklet.camera if paid_by == "other_cameras" else place_of(tracklet.frames)
        folds.append(known.setdefault(part, len(known)) % NUM_FOLDS)
    alone = [len(of_people[tracklet.person]) == 1 for tracklet in tracklets]
    return torch.tensor(folds).masked_fill(torch.tensor(alone), NUM_FOLDS)


class HeldOutJudges(nn.ModuleList):
    """Two classifiers like F_c, on the same F_o and F_h: judge k is trained on all clips but those of fold k.

    Args:
        glimpse: the glimpse network, whose F_c stays as it is.
        fold: fold of each training tracklet (`fold_of_each`).

    Attributes:
        networks: the glimpse network with each judge in F_c's place.
    """

    def __init__(self, glimpse: GlimpseNetwork, fold: Tensor):
        sizes = glimpse.num_channels, glimpse.num_glimpses, glimpse.num_identities
        networks = [GlimpseNetwork(*sizes).to(glimpse.identify.weight.device) for _ in range(NUM_FOLDS)]
        super().__init__(network.identify for network in networks)
        for network in networks:
            network.embed_observation, network.embed_hidden = glimpse.embed_observation, glimpse.embed_hidden
            if glimpse.is_tied:
                network.tie_glimpses()
        self.networks = networks
        self.fold = fold.to(glimpse.identify.weight.device)

    def loss(
        self, fold: Tensor, global_feature: Tensor, hidden: Tensor, identity: Tensor, config: JointConfig
    ) -> Tensor:
        """Return the sum of the judges' losses, which are F_c's, each over the episodes that it may learn from.

        Args:
            fold: fold of each episode's clip, int64 (N,).
            global_feature: f_g, (N, C_g); no gradient reaches it, nor `hidden`.
            hidden: h_1..h_T, (N, T, 256).
            identity: the true identities, int64 (N,).
            config: the losses' weights.
        """
        total = identity.new_zeros((), dtype=torch.float32)
        learns = fold != torch.arange(NUM_FOLDS, device=fold.device)[:, None]  # (judges, N)
        for network, own, share in zip(self.networks, learns, share_of_mean(learns.sum(1)), strict=True):
            rows = own.nonzero().squeeze(1)
            if len(rows) == 0:
                if world_size() == 1:
                    continue
                rows = torch.arange(len(fold), device=fold.device)  # with a share of 0: each rank has a gradient
            seen, looks, truth = global_feature[rows].detach(), hidden[rows].detach(), identity[rows]
            logits = network.identify(describe(seen, looks))
            total = total + identity_loss(logits, truth, label_smoothing=config.label_smoothing) * share
            if config.glimpse_weight:
                total = total + config.glimpse_weight * glimpse_loss(network, seen, looks, truth, config) * share
        return total


def glimpse_loss(
    glimpse: GlimpseNetwork, global_feature: Tensor, hidden: Tensor, identity: Tensor, config: JointConfig
) -> Tensor:
    """Return the mean over glimpses of the cross entropy (`JointConfig.glimpse_weight`), without its weight."""
    read = {"alone": glimpse.identify_glimpses, "prefixes": glimpse.identify_prefixes}[config.glimpses_judged]
    by_glimpse = read(global_feature, hidden).flatten(0, 1)  # (N T, identities)
    repeated = identity.repeat_interleave(hidden.shape[1])
    return identity_loss(by_glimpse, repeated, label_smoothing=config.label_smoothing)
