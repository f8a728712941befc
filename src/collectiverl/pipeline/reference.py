"""The settings of the thesis's code."""

from dataclasses import replace

from collectiverl.collective.critic import CriticConfig
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.collective.train import CollectiveConfig
from collectiverl.pipeline.config import RunConfig
from collectiverl.representation.encoder import EncoderConfig
from collectiverl.representation.objective import ObjectiveConfig
from collectiverl.representation.train import TransformerConfig
from collectiverl.sac.agent import AgentConfig, SACConfig
from collectiverl.sac.settings import ExpertConfig, SamplingConfig
from collectiverl.student.likelihood import LikelihoodConfig
from collectiverl.student.strategies import StrategyConfig


def reference() -> RunConfig:
    """The settings of the thesis's code in all stages, without its defects.

    docs/from-the-original.md has each value with the file that it is from, and what of a stage could not be carried
    over: among others, the experts' labels are those of the expert and not of a script, and the learner plays after
    the teachers.

    Source: https://github.com/argator18/A-transformer-based-collective-learning-framework-for-scalable-knowledge-accumulation-and-transfer
    """
    sac = SACConfig(
        gamma=0.99,
        tau=0.005,
        learning_rate=3e-4,
        layer_norm=False,
        normalize_obs=False,
        log_std_min=-20.0,
        log_std_max=2.0,
        n_step=1,
        batch_size=512,
        reward_scale=1.0,
        temperature_learning_rate=1e-4,
        initial_temperature=0.01,
    )
    expert = ExpertConfig(
        steps=1_000_000,
        num_envs=1,
        noise_hold=1,
        updates_per_step=1,
        horizon=400,
        warmup=1,
        capacity=140_000,
        eval_every=4_000,
        stop_success=1.0,
        stop_evaluations=5,  # of 20 episodes
        checkpoint_every=20_000,
        sampling=SamplingConfig(period=10_000, warmup=8_000, episodes=2),
        sac=sac,
    )
    student = replace(
        expert.without_sampling(),
        steps=50_000,
        warmup=4_000,
        stop_evaluations=0,
        sac=replace(sac, initial_temperature=1.0, temperature_learning_rate=3e-4),
    )
    shaping = LikelihoodConfig(weight=1.0, constant_steps=8_000, decay_steps=42_000, sigma_floor=1e-4)
    return RunConfig(
        tasks=("MT10",),
        student_tasks=("reach",),
        expert=expert,
        student=student,
        strategy=StrategyConfig(use=("likelihood",), likelihood=shaping),
        transformer=_reference_transformer(),
        online=OnlineConfig(
            random_episodes=20,
            expert_episodes=50,
            noisy=0.0,
            learner_rounds=20,
            learner_episodes=4,
            taught=0.0,
            horizon=400,
            first_updates=8_000,
            round_updates=800,
        ),
        collective=_reference_collective(),
    )


def _reference_transformer() -> TransformerConfig:
    return TransformerConfig(
        batch_size=256,  # 128 windows in two views
        learning_rate=2e-4,
        warmup=0,
        weight_decay=0.0,
        clip=1e6,
        encoder=EncoderConfig(layout="interleaved"),
        objective=ObjectiveConfig(
            reconstruction=6.0, positives="views"
        ),  # a sum over three parts and two views
    )


def _reference_collective() -> CollectiveConfig:
    return CollectiveConfig(
        conditioning="cls",
        absolute=0.0,
        labels=512,
        unrewarded=0.0,
        learning_rate=2e-4,
        warmup=1,
        average=0.0,
        updates=50_000,
        validation_every=1_000,
        critic=CriticConfig(updates=10_000, learning_rate=2e-4),
        sac=AgentConfig(width=300, layer_norm=False, log_std_min=-20.0, gamma=0.99, reward_scale=1.0),
    )
