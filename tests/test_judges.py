"""Judges that pay out of sample: folds by hand, who learns from what, who pays."""

from pathlib import Path

import pytest
import torch

from a3d_env.process import AttentionProcess
from agents.joint_config import JointConfig
from agents.judges import HeldOutJudges, fold_of_each, glimpse_loss
from agents.rollout import finish
from backbone.data.tracklet import FrameFiles, Tracklet
from backbone.glimpse import GlimpseNetwork, describe
from backbone.losses import identity_loss


def seen(*of: tuple[int, int]) -> list[Tracklet]:
    return [
        Tracklet(person, camera, FrameFiles((Path(str(number)),)), str(number))
        for number, (person, camera) in enumerate(of)
    ]


def test_folds_alternate_over_each_persons_tracklets_or_cameras():
    tracklets = seen((1, 5), (1, 5), (1, 6), (2, 6), (1, 7), (2, 5), (3, 5))
    assert fold_of_each(tracklets, "f_c") is None
    assert fold_of_each(tracklets, "other_tracklets").tolist() == [0, 1, 0, 0, 1, 1, 2]  # 2: F_c pays
    assert fold_of_each(tracklets, "other_cameras").tolist() == [0, 0, 1, 0, 0, 1, 2]


@pytest.fixture
def parts():
    torch.manual_seed(0)
    glimpse = GlimpseNetwork(5, 3, 4)
    return HeldOutJudges(glimpse, torch.tensor([0, 1, 0])), torch.randn(3, 5), torch.randn(3, 3, 256)


def test_a_judge_learns_from_the_other_fold_alone_and_nothing_reaches_the_features(parts):
    judges, features, hidden = parts
    features.requires_grad_()
    hidden.requires_grad_()
    identity, config = torch.tensor([0, 3, 2]), JointConfig(glimpse_weight=0.5, label_smoothing=0.1)
    loss = judges.loss(judges.fold, features, hidden, identity, config)
    first, second = judges.networks
    expected = torch.zeros(())
    for network, rows in ((first, [1]), (second, [0, 2])):
        logits = network.identify(describe(features[rows], hidden[rows]))
        expected += identity_loss(logits, identity[rows], label_smoothing=0.1)
        expected += 0.5 * glimpse_loss(network, features[rows], hidden[rows], identity[rows], config)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert features.grad is None
    assert hidden.grad is None
    assert all(network.identify.weight.grad.any() for network in judges.networks)
    assert judges.networks[0].embed_hidden.i2h.weight.grad is None  # F_o and F_h learn from F_c alone


def test_each_clip_is_paid_by_the_judge_that_did_not_see_it(random_case):
    bank, glimpse = random_case()
    process = AttentionProcess(bank, glimpse, "log_prob")
    fold = torch.arange(len(bank)) % 3  # 2: F_c's own
    judges = HeldOutJudges(glimpse, fold)
    episodes = finish(process, process.start(), lambda now: now.bins[:, -1])
    by_f_c = process.judge(episodes)
    process.pay_by(judges.networks, fold)
    paid = process.judge(episodes)
    read = process.descriptor(episodes)
    for clip, number in enumerate(fold.tolist()):
        judge = [*judges.networks, glimpse][number]
        logits = judge.identify(read[clip : clip + 1])[0].detach()
        assert paid.reward[clip] == pytest.approx(float(logits.log_softmax(0)[bank.identity[clip]]), abs=1e-5)
    assert torch.equal(paid.is_right, by_f_c.is_right)  # the prediction stays F_c's
    assert not torch.equal(paid.reward, by_f_c.reward)
