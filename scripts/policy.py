"""Train one agent on a bank's folder, the representation fixed: `a3d policy`.

Training takes minutes, less than joint training, and agents see the same features. The output folder gets
policy.pt, which `load_policy` reads, history.jsonl and curves.png (the mean reward of the last episodes by
environment step), and scores.json. If the command is stopped while it scores, the same command scores the trained
agent.

The clips that are scored are of tracklets that the agent was not trained on. F_c, which pays the reward, was
trained on them, and knows their people; `a3d probe` measures the agent on people that no part was trained on.

A bank first: `a3d bank --checkpoint runs/benchmark --out runs/bank`

Then an agent: `a3d policy --bank runs/bank --out runs/policy`

As in the strong recipe, on a bank of a run of that recipe: `a3d policy --bank runs/bank --policy.locator mixture
--out runs/mixture`

Another algorithm, any of its settings, and seed: `a3d policy --bank runs/bank --agent ppo
--agents.ppo.learning-rate 3e-4 --seed 1 --out runs/ppo`, or a file of them, `--agents agents.yaml`
"""

import dataclasses

from agents.runs.agent_flags import take_agent_settings
from agents.runs.settings import PolicyRunConfig
from backbone.files import folder_lock
from backbone.flags import read_flags, saying_if_stopped
from backbone.progress import print_result


def read(argv: list[str]) -> tuple[PolicyRunConfig]:
    """Read the flags, and the settings of the algorithm (--agents)."""
    argv, own = take_agent_settings(argv)
    config = read_flags(PolicyRunConfig, argv, "policy", __doc__)
    own.check([config.agent])
    return (dataclasses.replace(config, agent_settings=own.of(config.agent)),)


def run(config: PolicyRunConfig) -> None:
    """Train the agent, and print its scores."""
    from agents.runs.bank_policy import train_policy, what_is_left  # --help need not wait for torch
    from agents.runs.policy_scores import text_table

    with saying_if_stopped(lambda: what_is_left(config)), folder_lock(config.out):
        table, steps_per_second = train_policy(config)
    heading = f"clips held out, means and 95% intervals over people; the reward is {config.reward}"
    print_result(f"{heading}\n{text_table(table)}")
    print_result(f"{steps_per_second:.0f} environment steps a second, training included; see {config.out}")
