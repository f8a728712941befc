"""Settings as the code of the thesis takes them, `worker.builder.discount=0.99`, answered with our flags.

They are not translated: a setting there does not always do what its counterpart does here.
"""

import re
from collections.abc import Sequence

from collectiverl.types import UserError

PAGE = "docs/from-the-original.md"
GROUPS = "env|experiment|replay_buffer|setup|student|transformer_collective_network|worker"
OVERRIDE = re.compile(rf"((?:{GROUPS})(?:\.\w+)*)=(.*)")
# what holds here anyway
ALWAYS = (
    *("setup=metaworld", "env=metaworld-mt1", "worker.multitask.num_envs=1"),
    *("worker.builder.actor_update_freq=1", "student.builder.actor_update_freq=1"),
)
# setting there -> command and flag here
FLAGS = {
    "env.benchmark.env_name": "train-task TASK",
    "setup.seed": "train-task --seed",
    "experiment.num_train_steps": "train-task STEPS",
    "experiment.init_steps": "train-task --warmup",
    "experiment.eval_freq": "train-task --eval-every",
    "experiment.early_stopping_threshold": "train-task --stop-success",
    "experiment.early_stopping_success": "train-task --stop-success",
    "experiment.early_stopping_window": "train-task --stop-evaluations",
    "experiment.col_sampling_freq": "train-task --sampling.period",
    "experiment.col_training_warmup": "train-task --sampling.warmup",
    "experiment.col_training_samples": "train-task --sampling.episodes",
    "replay_buffer.replay_buffer.capacity": "train-task --capacity",
    "replay_buffer.replay_buffer.batch_size": "train-task --sac.batch-size",
    "worker.actor.hidden_dim": "train-task --sac.width",
    "worker.actor.num_layers": "train-task --sac.depth",
    "worker.builder.discount": "train-task --sac.gamma",
    "worker.builder.critic_tau": "train-task --sac.tau",
    "worker.builder.init_temperature": "train-task --sac.initial-temperature",
    "worker.optimizers.actor.lr": "train-task --sac.learning-rate",
    "worker.optimizers.critic.lr": "train-task --sac.learning-rate",
    "worker.optimizers.alpha.lr": "train-task --sac.temperature-learning-rate",
    "experiment.init_steps_online_tf": "online-distill --random-episodes",
    "experiment.distill_scripted_policy": "online-distill --teacher",
    "experiment.num_actor_train_step": "distill-collective --updates",
    "experiment.num_critic_train_step": "distill-collective --critic.updates",
    "transformer_collective_network.optimizers.actor.lr": "distill-collective --learning-rate",
    "experiment.num_student_online_trainsteps2": "train-student STEPS",
    "experiment.init_steps_stu2": "train-student --warmup",
    "experiment.start_weight": "train-student --strategy.likelihood.weight",
    "experiment.constant_expert_weight": "train-student --strategy.likelihood.constant-steps",
    "experiment.expert_train_step": "train-student --strategy.likelihood.decay-steps",
    "experiment.num_student_online_trainsteps": "train-student STEPS",
    "experiment.evaluate_transformer": "evaluate POLICY",
    "experiment.evaluate_episodes": "evaluate --goal-seeds",
}


def without_overrides(args: Sequence[str]) -> list[str]:
    """The command line without those settings of the thesis's code that hold here anyway.

    Raises:
        UserError: there is another one; the message names our flag.
    """
    kept = []
    for arg in args:
        found = OVERRIDE.fullmatch(arg)
        if found is None:
            kept.append(arg)
        elif arg not in ALWAYS:
            flag = FLAGS.get(found[1])
            hint = f"here it is 'collectiverl {flag}'" if flag else "it has no counterpart here"
            raise UserError(f"{arg} is a setting of the thesis's code: {hint} (see {PAGE})")
    return kept
