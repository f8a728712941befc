"""Whole configurations by name."""

from dataclasses import replace

from collectiverl.collective.critic import CriticConfig
from collectiverl.collective.probing import ProbingConfig
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.collective.train import CollectiveConfig
from collectiverl.evaluation.evaluate import EvaluateConfig
from collectiverl.pipeline.config import RunConfig
from collectiverl.pipeline.reference import reference
from collectiverl.representation.encoder import EncoderConfig
from collectiverl.representation.train import TransformerConfig
from collectiverl.sac.agent import AgentConfig, SACConfig
from collectiverl.sac.settings import STUDENT_AVERAGE, ExpertConfig, SamplingConfig
from collectiverl.stages.teachers import EITHER
from collectiverl.student.jump_start import JumpStartConfig
from collectiverl.student.likelihood import LikelihoodConfig
from collectiverl.student.prior_data import PriorDataConfig
from collectiverl.student.strategies import StrategyConfig

# tasks of MT50 whose experts begin with demonstrations: a thing has to be gripped, carried, freed or pushed to a place
DEMO_TASKS = (
    *("assembly", "basketball", "bin-picking", "box-close", "coffee-pull", "coffee-push", "disassemble"),
    *("hammer", "hand-insert", "handle-pull", "handle-pull-side", "lever-pull", "peg-insert-side"),
    *("peg-unplug-side", "pick-out-of-hole", "pick-place", "pick-place-wall", "push", "push-back"),
    *("push-wall", "shelf-place", "soccer", "stick-pull", "stick-push", "sweep", "sweep-into"),
)


def smoke() -> RunConfig:
    """Every stage on two toy tasks, in under a minute."""
    sac = SACConfig(width=64, batch_size=64, gamma=0.9)
    expert = ExpertConfig(
        steps=8_000,
        num_envs=8,
        updates_per_step=4,
        warmup=400,
        capacity=20_000,
        eval_every=1_000,
        eval_episodes=20,
        checkpoint_every=2_000,
        sampling=SamplingConfig(period=400, warmup=0, episodes=8),
        sac=sac,
    )
    return RunConfig(
        tasks=("toy-reach", "toy-mirror"),
        student_tasks=("toy-mirror",),
        expert=expert,
        student=replace(expert.for_student(), steps=2_000, updates_per_step=4),
        strategy=StrategyConfig(
            likelihood=LikelihoodConfig(weight=2.0, constant_steps=1_000, decay_steps=1_000),
            jump_start=JumpStartConfig(steps=30, decay_steps=1_000),
            prior_data=PriorDataConfig(updates=100),
        ),
        transformer=TransformerConfig(
            updates=1_200,
            batch_size=64,
            learning_rate=3e-3,
            validation_every=300,
            validation_batches=4,
            encoder=EncoderConfig(window=8, layers=1, dropout=0.0),
        ),
        online=OnlineConfig(
            random_episodes=4,
            expert_episodes=32,
            learner_rounds=6,
            learner_episodes=32,
            horizon=None,
            first_updates=100,
            round_updates=100,
        ),
        collective=CollectiveConfig(
            labels=1_000,
            encoder=EncoderConfig(window=8, dim=32, layers=1, heads=2, feedforward=64, dropout=0.0),
            segment=25,
            updates=600,
            critic=CriticConfig(updates=100, batch_size=256),
            sac=AgentConfig(width=64, gamma=sac.gamma),
        ),
        evaluate=EvaluateConfig(num_envs=50),
    )


def quickstart() -> RunConfig:
    """Two tasks with goals hidden: only rewards tell where to go. Minutes on two cores."""
    hidden = mt10_hidden()
    return replace(
        hidden,
        tasks=("reach", "push"),
        teacher="shipped",
        demo_tasks=(),
        told_nothing=True,
        online=replace(
            hidden.online,
            expert_episodes=32,
            learner_rounds=6,
            learner_episodes=32,
            after_success=40,
            first_updates=100,
            round_updates=100,
        ),
        collective=replace(hidden.collective, labels=2_000, updates=400, critic=CriticConfig(updates=200)),
        evaluate=EvaluateConfig(goals=tuple(range(20))),
    )


def scratch() -> RunConfig:
    """Three easy tasks, all stages: experts trained from random weights, the collective and a student."""
    expert = ExpertConfig(
        steps=160_000,
        eval_every=6_000,
        stop_evaluations=3,
        sampling=SamplingConfig(period=16_000, warmup=0, episodes=16),
    )
    return RunConfig(
        tasks=("reach", "window-close", "drawer-close"),
        student_tasks=("window-close",),
        expert=expert,
        student=expert.for_student(),
        transformer=TransformerConfig(updates=1_000),
        online=OnlineConfig(learner_rounds=3),
    )


def mt10() -> RunConfig:
    """The ten tasks of MT10. Experts take under an hour on two cores; the three hard ones begin with demonstrations."""
    expert = ExpertConfig(
        steps=500_000,
        stop_evaluations=3,
        sampling=SamplingConfig(period=16_000, warmup=0, episodes=16),
    )
    return RunConfig(
        tasks=("MT10",),
        demo_tasks=("push", "pick-place", "peg-insert-side"),
        student_tasks=("window-open",),
        expert=expert,
        student=expert.for_student(),
        transformer=TransformerConfig(updates=2_000),
        evaluate=EvaluateConfig(goal_seeds=3),
    )


def mt10_hidden() -> RunConfig:
    """The ten tasks of MT10 with their goals hidden: only rewards tell where to go, so they are always told."""
    base = mt10()
    return replace(
        base,
        goals_hidden=True,
        student_tasks=(),
        # more rounds and updates than where goals are seen: what rewards tell has to be learned too
        online=replace(base.online, learner_rounds=14, first_updates=200, round_updates=200),
        collective=replace(
            base.collective, probing=ProbingConfig(amplitude=0.5), unrewarded=0.0, updates=1_200
        ),
    )


def mt50() -> RunConfig:
    """The fifty tasks of MT50, taught by the experts that come with the package; `stick-pull`, by its script."""
    return replace(scripted(), teacher=EITHER, agreed=True)


def scripted() -> RunConfig:
    """The fifty tasks of MT50, taught by Meta-World's scripted policies: what `ml10`, `ml45` and `fetch` begin from."""
    base = mt10()
    return replace(
        base,
        tasks=("MT50",),
        teacher="scripted",
        demo_tasks=(),
        student_tasks=(),
        mixed_skill=24,
        transformer=replace(base.transformer, updates=4_000, batch_size=256),
        online=replace(
            base.online,
            expert_episodes=10,
            learner_rounds=20,
            learner_episodes=9,
            horizon=300,
            after_success=40,
            first_updates=400,
            round_updates=400,
            num_envs=100,
        ),
        collective=replace(
            base.collective,
            differences=True,
            encoder=replace(base.collective.encoder, z_dim=32),
            sac=replace(base.collective.sac, width=384),
            updates=4_000,
        ),
        evaluate=EvaluateConfig(),
    )


def mt50_experts() -> RunConfig:
    """The fifty tasks of MT50, taught by experts of its own: SAC for each task, judged where an episode ends."""
    base = scripted()
    expert = replace(
        base.expert,
        steps=200_000,
        stop_evaluations=2,
        eval_first=10,
        success_at="last",
        demo_imitation=1.0,
        sac=replace(base.expert.sac, actor_average=STUDENT_AVERAGE),
    )
    shared = ("button-press-wall", "push-wall")  # pick-place-wall with its three look-alikes was not learned
    return replace(base, teacher="sac", agreed=True, demo_tasks=DEMO_TASKS, shared=shared, expert=expert)


def ml45() -> RunConfig:
    """The 45 training tasks of ML45, goals hidden, taught by scripts that see them; its test tasks are not taught."""
    base, hidden = scripted(), mt10_hidden().collective
    return replace(
        base,
        tasks=("ML45",),
        goals_hidden=True,
        collective=replace(base.collective, probing=hidden.probing, unrewarded=hidden.unrewarded),
    )


def ml10() -> RunConfig:
    """The ten training tasks of ML10, in the same way, with more episodes of each."""
    base = ml45()
    return replace(
        base, tasks=("ML10",), online=replace(base.online, expert_episodes=16, learner_episodes=24)
    )


def fetch() -> RunConfig:
    """The four Fetch tasks of Gymnasium-Robotics, taught by scripts of our own: another robot, and minutes."""
    base, reward_scale = scripted(), 5.0  # rewards are metres, a fifth of one at first
    sac = replace(base.expert.sac, reward_scale=reward_scale)
    return replace(
        base,
        tasks=("FETCH",),
        expert=replace(base.expert, sac=sac),
        student=replace(base.student, sac=sac),
        online=replace(
            base.online,
            expert_episodes=40,
            learner_rounds=8,
            learner_episodes=40,
            horizon=None,
            after_success=None,
            first_updates=130,
            round_updates=130,
            num_envs=160,
        ),
        collective=replace(
            base.collective,
            segment=50,
            encoder=replace(base.collective.encoder, z_dim=16),
            sac=replace(base.collective.sac, width=256, reward_scale=reward_scale),
            updates=800,
        ),
        evaluate=EvaluateConfig(goal_seeds=2),
    )


def fetch_hidden() -> RunConfig:
    """The same with goals hidden: rewards, which are minus the distance to the goal, tell where to go."""
    base, hidden = fetch(), mt10_hidden().collective
    return replace(
        base,
        goals_hidden=True,
        online=replace(base.online, learner_rounds=14, first_updates=200, round_updates=200),
        collective=replace(
            base.collective, probing=hidden.probing, unrewarded=hidden.unrewarded, updates=1_200
        ),
    )


PRESETS = {
    "smoke": smoke,
    "quickstart": quickstart,
    "scratch": scratch,
    "mt10": mt10,
    "mt10-hidden": mt10_hidden,
    "mt50": mt50,
    "mt50-experts": mt50_experts,
    "ml10": ml10,
    "ml45": ml45,
    "fetch": fetch,
    "fetch-hidden": fetch_hidden,
    "reference": reference,
}
