"""A set of clips that several rows of `a3d probe` look at, while the backbone runs over them once."""

from collections.abc import Mapping

import numpy as np

from a3d_env.process import AttentionProcess, Episodes
from agents.probes import EpisodeRule
from agents.rollout import hit_shares
from agents.runs.describe import TrackletMeans, clip_batches, looks
from agents.runs.model import Run
from backbone.data.loader import ClipBatch
from backbone.data.tracklet import Tracklet
from backbone.representation import Representation


class ClipSet:
    """Clips of some tracklets, looked at by several rows while the backbone runs over them once.

    Args:
        run: networks.
        tracklets: tracklets of the clips, one or more.
        max_clips: most clips of each tracklet; None for all.
        clips_per_batch: number of clips in memory at once.
        of_training: whether the clips show people that F_c knows.

    Attributes:
        tracklet: number of each clip's tracklet, int64 (num_clips,).
        person: person of each clip, int64 (num_clips,).
    """

    def __init__(
        self,
        run: Run,
        tracklets: list[Tracklet],
        *,
        max_clips: int | None = None,
        clips_per_batch: int = 32,
        of_training: bool = False,
    ):
        self.run = run
        self.tracklets = tracklets
        self.batches = clip_batches(run, tracklets, clips_per_batch=clips_per_batch, clips_per_tracklet=max_clips)
        self.labels = run.labels if of_training else None
        self.tracklet = np.array([index for index, _ in self.batches.all_clips])
        self.person = np.array([tracklets[index].person for index in self.tracklet])

    @property
    def knows_truth(self) -> bool:
        """Tell whether the place of the thing is known in all of the clips."""
        return all(tracklet.truth_boxes is not None for tracklet in self.tracklets)

    def watch(self, rows: Mapping[str, EpisodeRule], what: str) -> dict[str, "ProbeResults"]:
        """Run the backbone over all clips, and each row over its features.

        Args:
            rows: functions that choose the bins, by name.
            what: text beside the progress bar.

        Returns:
            Results of each row.
        """
        seen = {name: ProbeResults(len(self.tracklets), self.run.representation) for name in rows}
        for batch, process, finished in looks(self.run, self.batches, rows, what, self.labels):
            for name, episodes in finished.items():
                if self.labels is None:
                    seen[name].add_strangers(process, episodes, batch)
                else:
                    seen[name].add_known(process, episodes)
        return seen


class ProbeResults:
    """Results of one row's episodes.

    Args:
        num_tracklets: number of the clips' tracklets.
        representation: representation, which says what is compared.

    Attributes:
        reward: rewards of the run, by batch; of people whom F_c knows, like `log_prob`.
        log_prob: log-probability of the true identity.
        hits: percentage of the chosen bins that cover the thing, NaN where it is not seen; of other people.
        descriptors: descriptors of the tracklets.
    """

    def __init__(self, num_tracklets: int, representation: Representation):
        self.reward: list[np.ndarray] = []
        self.log_prob: list[np.ndarray] = []
        self.hits: list[np.ndarray] = []
        self.descriptors = TrackletMeans(num_tracklets, representation)

    def add_known(self, process: AttentionProcess, episodes: Episodes) -> None:
        """Let F_c judge episodes."""
        self.reward.append(process.judge(episodes).reward.cpu().numpy())
        log_prob = AttentionProcess(process.bank, process.glimpse, "log_prob")
        self.log_prob.append(log_prob.judge(episodes).reward.cpu().numpy())

    def add_strangers(self, process: AttentionProcess, episodes: Episodes, batch: ClipBatch) -> None:
        """Describe the tracklets of episodes."""
        self.hits.append(100 * hit_shares(process.bank, episodes))
        self.descriptors.add(batch, process.descriptor(episodes))
