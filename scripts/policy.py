"""Train one agent on a bank's folder, the representation fixed: `a3d policy`.

Where agents are compared, on the same features: minutes instead of a joint training. Leaves policy.pt, which
`load_policy` reads, history.jsonl and curves.png (the mean reward of late episodes by environment step), and
scores.json in the output folder. Stopped while it scores, the same command scores what is trained.

The clips that are scored are of tracklets that the agent was not trained on; F_c, which pays the reward, was, and
knows their people. Whether an agent looks right on people whom nothing has seen is for `a3d probe` to say.

A bank first: `a3d bank --checkpoint runs/benchmark --out runs/bank`

Then an agent: `a3d policy --bank runs/bank --out runs/policy`

As in the strong recipe, on a bank of a run of that recipe: `a3d policy --bank runs/bank --policy.locator mixture
--out runs/mixture`

Another algorithm, any of its settings, and seed: `a3d policy --bank runs/bank --agent ppo
--agents.ppo.learning-rate 3e-4 --seed 1 --out runs/ppo`, or a file of them, `--agents agents.yaml`
"""

import dataclasses

import tyro

from agents.runs.agent_flags import take_agent_settings
from agents.runs.bank_policy import PolicyRunConfig, train_policy, what_is_left
from agents.runs.policy_scores import text_table
from backbone.files import only_here
from backbone.progress import say, show


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    config = None
    try:
        argv, own = take_agent_settings(argv)
        config = tyro.cli(
            PolicyRunConfig,
            args=argv,
            prog="a3d policy",
            description=__doc__,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        own.check([config.agent])
        config = dataclasses.replace(config, agent_settings=own.of(config.agent))
        with only_here(config.out):
            table, steps_per_second = train_policy(config)
    except (ValueError, OSError) as error:
        say(f"a3d policy: error: {error}")
        return 2
    except KeyboardInterrupt:
        say(f"\na3d policy: stopped; {'nothing was written' if config is None else what_is_left(config)}")
        return 130
    show(f"clips held out, means and 95% intervals over people\n{text_table(table)}")
    show(f"{steps_per_second:.0f} environment steps a second, training included; see {config.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
