"""The trainer: killed and resumed it ends as if it had never been killed."""

import json
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest

from collectiverl.artifacts.checkpoints import latest_checkpoint
from collectiverl.artifacts.metrics import silent
from collectiverl.data.replay import Replay
from collectiverl.envs.concat import Concatenated
from collectiverl.envs.make import make_envs
from collectiverl.envs.rollout import RandomPolicy, episodes, first_success
from collectiverl.envs.toy import HORIZON
from collectiverl.sac import evaluation, learner
from collectiverl.sac.agent import expert_of
from collectiverl.sac.batches import Prior
from collectiverl.sac.evaluation import JUDGES, Evaluation, Evaluator
from collectiverl.sac.help import Demonstrated, MentorOutput, NoHelp
from collectiverl.sac.policy import AgentPolicy
from collectiverl.sac.progress import ExpertProgress
from collectiverl.sac.settings import SamplingConfig, TrainConfig
from collectiverl.sac.train import Trainer
from collectiverl.types import ConfigError
from training import SAC, TRAIN, fresh, same, trainer


class Killed(Exception):
    pass


class Kill:
    """A report that raises at its `when`-th call."""

    def __init__(self, when):
        self.left = when

    def __call__(self, done, total, note=""):
        self.left -= 1
        if not self.left:
            raise Killed


def lines(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same_result(one, two):
    assert same(one.agent, two.agent)
    assert (one.env_steps, one.success, one.solved_at) == (two.env_steps, two.success, two.solved_at)
    assert len(one.episodes) == len(two.episodes)
    for a, b in zip(one.episodes, two.episodes, strict=True):
        for name in ("obs", "action", "reward", "success"):
            assert np.array_equal(getattr(a, name), getattr(b, name))
        assert (a.phase, a.seed, a.goal) == (b.phase, b.seed, b.goal)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    one = trainer()
    [result] = one.run(folder)
    return result, one.learner.state, lines(folder)


@pytest.mark.parametrize(
    ("kills", "seconds"), [((2,), 30.0), ((3, 2), 30.0), ((8,), 30.0), ((3, 2), -1.0)]
)  # with -1 there is a checkpoint after every step, not only at the resets
def test_killed_and_resumed_it_ends_as_uninterrupted(tmp_path, monkeypatch, uninterrupted, kills, seconds):
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", seconds)
    for when in kills:
        with pytest.raises(Killed):
            trainer(report=Kill(when)).run(tmp_path)
    last = trainer()
    [result] = last.run(tmp_path)
    assert_same_result(result, uninterrupted[0])
    assert same(last.learner.state, uninterrupted[1])
    assert lines(tmp_path) == uninterrupted[2]


def test_a_checkpoint_was_there_to_resume_from(tmp_path):
    with pytest.raises(Killed):
        trainer(report=Kill(5)).run(tmp_path)
    resumed = trainer()
    resumed.restore(latest_checkpoint(tmp_path))
    assert 0 < resumed.progress.env_steps < TRAIN.steps
    assert resumed.progress.env_steps % (HORIZON * TRAIN.num_envs) == 0  # between episodes
    assert resumed.sampler.experts[0].sampled  # what was copied aside for the trajectory transformer


def test_a_training_follows_from_its_seed_and_needs_no_folder(uninterrupted):
    assert_same_result(trainer().run()[0], uninterrupted[0])


def test_it_learns_the_toy_task():
    config = replace(TRAIN, steps=6_000, capacity=6_000)
    config = replace(config, stop_success=0.8, stop_evaluations=1, eval_every=500)
    one = trainer(config)
    [result] = one.run()
    assert result.success >= 0.8
    assert result.solved_at <= result.env_steps == one.progress.env_steps


def test_the_end_is_evaluated(uninterrupted):
    result, _, rows = uninterrupted
    assert rows[-1]["step"] == result.env_steps == TRAIN.steps
    late = trainer(replace(TRAIN, steps=300, eval_every=10_000))
    late.run()
    assert late.progress.next_evaluation == 300 + 10_000


def test_the_agent_of_the_best_evaluation_is_kept(uninterrupted):
    result, _, rows = uninterrupted
    assert result.success == pytest.approx(max(row["eval/success"] for row in rows))


def test_episodes_are_sampled_at_their_times(uninterrupted):
    """Each time the last three complete ones: at 100, then 150 steps after the time before, and at the end."""
    episodes = uninterrupted[0].episodes
    assert len(episodes) == 3 * 6  # at 100, 252, 404, 556, 708 and 800
    assert all(len(e) == HORIZON and e.phase == "training" for e in episodes)
    assert len({e.obs.tobytes() for e in episodes}) == len(episodes)


def test_no_episodes_are_sampled_if_none_are_wanted():
    config = replace(TRAIN, steps=300, sampling=SamplingConfig(episodes=0, warmup=0, period=1))
    assert trainer(config).run()[0].episodes == []


def test_learning_may_begin_with_the_first_transitions():
    one = trainer(replace(TRAIN, warmup=1, steps=100, num_envs=4))
    one.run()
    assert int(one.learner.state.updates[0]) == 2 * (
        100 // 4 - 1
    )  # all but the first, which has nothing behind it


def test_updates_wait_for_the_warm_up():
    one = trainer(replace(TRAIN, warmup=100, steps=200))
    one.run()
    assert int(one.learner.state.updates[0]) == 2 * (1 + 1 + 25)  # at 100, at the step between, and after


def test_what_the_replay_holds_is_what_was_played():
    """Row for row: the next row's observation follows from this one's action, or this one ended."""
    one = trainer(replace(TRAIN, steps=400))
    one.run()
    data, size = one.replay.data, one.replay.size
    assert size < len(data.reward)
    for row in range(size - 1):
        valid = data.valid[row, 0]
        moved = data.obs[row, 0, :, :2] + 0.1 * np.clip(data.action[row, 0], -1, 1)
        np.testing.assert_allclose(
            data.obs[row + 1, 0, :, :2][valid], np.clip(moved, -1, 1)[valid], atol=1e-6
        )
        assert np.all(data.obs[row + 1, 0, :, 4:][valid] == data.obs[row, 0, :, 4:][valid])
    assert data.valid[:size].sum() == 400


@pytest.mark.parametrize(
    ("config", "field", "value", "why"),
    [
        (TrainConfig, "num_envs", 0, "0 must be at least 1"),
        (TrainConfig, "warmup", 2_000_000, "2000000 exceeds the capacity of 1000000"),
        (TrainConfig, "warmup", 300_000, "300000 must be below steps=200000, or nothing is learned"),
        (TrainConfig, "stop_success", 1.5, "1.5 is not in [0, 1]"),
        (TrainConfig, "stop_success", float("nan"), "nan is not in [0, 1]"),
        (TrainConfig, "stop_evaluations", -1, "-1 must be at least 0"),
        (TrainConfig, "checkpoint_every", 0, "0 must be at least 1"),
        (TrainConfig, "horizon", 0, "0 must be at least 1"),
        (TrainConfig, "noise_hold", 0, "0 must be at least 1"),
        (SamplingConfig, "period", 0, "0 must be at least 1"),
        (SamplingConfig, "episodes", -1, "-1 must be at least 0"),
    ],
)
def test_nonsense_is_refused_by_name(config, field, value, why):
    with pytest.raises(ConfigError) as refusal:
        config(**{field: value})
    assert (refusal.value.field, refusal.value.why) == (field, why)


def test_exploration_keeps_its_noise_for_some_steps():
    one = trainer(replace(TRAIN, noise_hold=3))
    obs = np.random.default_rng(0).normal(size=(TRAIN.num_envs, 6)).astype(np.float32)

    def action(env_steps, vector_step):
        one.progress.env_steps, one.progress.vector_step = env_steps, vector_step
        return one.eval_action(obs)

    first = action(TRAIN.warmup, 30)
    assert np.array_equal(action(TRAIN.warmup, 31), first)
    assert np.array_equal(action(TRAIN.warmup, 32), first)
    assert not np.array_equal(action(TRAIN.warmup, 33), first)
    assert len(np.unique(first, axis=0)) == TRAIN.num_envs
    assert not np.array_equal(action(0, 31), action(0, 30))  # the warm-up is white


def demonstrations(count=3):
    envs = make_envs("toy-reach", count, goals="fresh")
    return list(episodes(envs, RandomPolicy(2, 7), per_env=1, phase="scripted", seed=7))


def prior_of(given, **how):
    return Prior(Replay.of([given]), **how)


@pytest.mark.parametrize(("own_steps", "shares"), [(0, {0.5}), (75, None)])
def test_a_share_of_every_batch_is_the_prior(monkeypatch, own_steps, shares):
    """Half of it; or none was asked for, but it was played for this learner: then its share of all that was seen."""
    given = demonstrations()
    known = {row.tobytes() for e in given for row in e.obs}
    seen = []

    def note(state, batches, key, config, imitation):
        seen.append([obs.tobytes() in known for obs in batches.obs.reshape(-1, 6)])
        return state, {}

    monkeypatch.setattr(learner, "update", note)
    prior = prior_of(given, share=0.0 if own_steps else 0.5, env_steps=own_steps)
    trainer(replace(TRAIN, steps=300), prior=prior).run()
    found = [float(np.mean(one)) for one in seen]
    assert found
    if shares:
        assert set(found) == shares
    else:
        assert found == sorted(found, reverse=True)
        assert 1 > found[0] > found[-1] > 0


@pytest.mark.parametrize("shortened", [False, True])
def test_observation_statistics_know_the_prior(shortened):
    given = demonstrations()
    if shortened:
        short = {name: getattr(given[0], name)[:5] for name in ("action", "reward", "success")}
        given[0] = replace(given[0], obs=given[0].obs[:6], **short)
    one = trainer(replace(TRAIN, steps=300), prior=prior_of(given))
    one.run()
    count = float(one.learner.state.agent.normalizer.count[0])
    rows = one.progress.vector_step * TRAIN.num_envs
    assert count == rows + sum(map(len, given))


AVERAGED = replace(SAC, actor_average=0.9)


def test_killed_and_resumed_with_a_prior_it_ends_as_uninterrupted(tmp_path):
    config, given = replace(TRAIN, steps=500, sac=AVERAGED), demonstrations()
    one = trainer(config, prior=prior_of(given))
    [whole] = one.run()
    assert not same(one.learner.state.average, one.learner.state.agent.actor)
    with pytest.raises(Killed):
        trainer(config, prior=prior_of(given), report=Kill(4)).run(tmp_path)
    [resumed] = trainer(config, prior=prior_of(given)).run(tmp_path)
    assert_same_result(resumed, whole)


def test_the_averaged_actor_is_what_is_judged_and_kept():
    one = trainer(replace(TRAIN, steps=500, sac=AVERAGED))
    judged = []

    class AlwaysBetter:
        def play(self, agents, env_steps):
            judged.append((agents, one.learner.state.average))
            return Evaluation(np.array([env_steps / 1_000]), np.zeros(1), TRAIN.eval_episodes)

    one.evaluator = AlwaysBetter()
    [result] = one.run()
    agents, average = judged[-1]
    assert len(judged) > 1
    assert same(agents.actor, average)
    assert same(result.agent.actor, expert_of(average, 0))


def test_killed_and_resumed_while_it_imitates_demonstrations_it_ends_as_uninterrupted(tmp_path):
    config, given, help = replace(TRAIN, steps=500), demonstrations(), Demonstrated(1.0)
    [whole] = trainer(config, prior=prior_of(given), help=help).run()
    with pytest.raises(Killed):
        trainer(config, prior=prior_of(given), help=help, report=Kill(3)).run(tmp_path)
    [resumed] = trainer(config, prior=prior_of(given), help=help).run(tmp_path)
    assert_same_result(resumed, whole)
    [other] = trainer(config, prior=prior_of(given)).run()
    assert not same(other.agent, whole.agent)


def test_a_prior_that_was_played_for_the_student_counts_and_is_learned_from_before_it_acts(tmp_path):
    config, prior = replace(TRAIN, steps=400), prior_of(demonstrations(), env_steps=200, updates=40)
    one = trainer(config, prior=prior)
    [result] = one.run(tmp_path)
    plays = one.progress.vector_step
    assert result.env_steps >= 400
    assert plays * TRAIN.num_envs <= 220 + TRAIN.num_envs * 5  # the rest was played before
    assert int(one.learner.state.updates[0]) > 40
    assert lines(tmp_path)[0]["step"] < 300  # judged as soon as it acts


def two_experts(verdicts, report=silent):
    """Experts of two tasks, whose successive evaluations turn out as in `verdicts`: the success of each."""
    config = replace(TRAIN, stop_evaluations=2, stop_success=0.9)
    envs, eval_envs = (
        Concatenated([make_envs(task, n, goals="fresh") for task in ("toy-reach", "toy-mirror")])
        for n in (config.num_envs, config.eval_episodes)
    )
    both = Trainer(fresh(config.sac, experts=2), config, envs, eval_envs, seed=0, report=report)
    both.judged = []

    class Verdicts:
        def play(self, agents, env_steps):
            both.judged.append(agents)
            success = np.asarray(verdicts[env_steps // TRAIN.eval_every - 1], float)
            return Evaluation(success, np.zeros(2), TRAIN.eval_episodes)

    both.evaluator = Verdicts()
    return both


VERDICTS = [(1, 0), (1, 1), (1, 0), (0, 1), (1, 1)]


def test_experts_in_one_program_are_judged_each_by_itself(tmp_path):
    both = two_experts(VERDICTS)
    one, other = both.run(tmp_path)
    assert (one.solved_at, other.solved_at) == (100, 400)
    assert len(both.judged) == 5  # then both are solved

    def of(i, agents):
        return jax.tree.map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, agents)

    assert same(one.agent, of(0, both.judged[1]))  # of the evaluation that decided
    assert same(other.agent, of(1, both.judged[4]))
    for result, task in zip((one, other), ("toy-reach", "toy-mirror"), strict=True):
        assert {e.task for e in result.episodes} == {task}
    assert {"toy-reach/eval/success", "toy-mirror/eval/success"} <= lines(tmp_path)[0].keys()


def test_experts_in_one_program_killed_and_resumed_end_as_uninterrupted(tmp_path):
    whole = two_experts(VERDICTS).run()
    with pytest.raises(Killed):
        two_experts(VERDICTS, report=Kill(4)).run(tmp_path)
    for resumed, wanted in zip(two_experts(VERDICTS).run(tmp_path), whole, strict=True):
        assert_same_result(resumed, wanted)


def test_an_expert_that_is_done_is_kept_as_it_was():
    config = replace(TRAIN, stop_evaluations=2, stop_success=0.5)
    expert, best = ExpertProgress(), []
    for i, success in enumerate((0.2, 0.6, 0.1, 0.7, 0.6, 0.9)):
        expert, is_best = expert.after(success, 100 * i, config)
        best.append(is_best)
    assert best == [True, True, False, True, False, False]
    assert expert == ExpertProgress(streak=2, solved_at=300, best=0.7)


def test_evaluations_take_as_many_rounds_as_their_environments_need():
    """Twelve episodes in rounds of five: the fifteen that are played less the last three."""
    envs, agents = make_envs("toy-reach", 5, goals="fresh"), fresh().agent
    success, returns, episodes = Evaluator(envs, episodes=12, seed=0).play(agents, env_steps=300)
    assert episodes == 12
    seeds = np.random.SeedSequence([0, 2, 300]).generate_state(3)
    rounds = [first_success(envs, AgentPolicy(agents), int(seed % 2**31)) for seed in seeds]
    assert success == pytest.approx(np.concatenate([won for won, _ in rounds])[:12].mean())
    assert returns == pytest.approx(np.concatenate([gained for _, gained in rounds])[:12].mean())


@pytest.mark.parametrize(
    ("won", "success", "episodes"),
    [
        ((3, 4, 5, 5), 0.7, 10),  # of the first ten: it ends there
        ((4, 4, 5, 4), 0.85, 20),
        ((5, 3, 0, 0), 0.4, 20),  # what began well counts as a whole
    ],
)
def test_an_evaluation_that_begins_badly_ends_early(monkeypatch, won, success, episodes):
    rounds = iter(won)
    monkeypatch.setattr(evaluation, "expert_count", lambda agents: 1)
    monkeypatch.setattr(evaluation, "AgentPolicy", lambda agents: None)
    monkeypatch.setitem(JUDGES, "any", lambda *_: (np.arange(5) < next(rounds), np.zeros(5, np.float32)))
    judge = Evaluator(make_envs("toy-reach", 5), episodes=20, seed=0, first=10, promising=0.8)
    found = judge.play(fresh().agent, 300)
    assert (found.success[0], found.episodes) == (pytest.approx(success), episodes)


def test_each_task_of_an_expert_counts_alike(monkeypatch):
    """Of five environments three are of one task, which is always won; the other's are never."""
    envs = Concatenated([make_envs(task, n) for task, n in (("toy-reach", 3), ("toy-mirror", 2))])
    monkeypatch.setitem(JUDGES, "any", lambda *_: (np.arange(5) < 3, np.arange(5.0)))
    judge = Evaluator(envs, episodes=8, seed=0)
    found = judge.play(fresh().agent, env_steps=0)
    assert found.success == 0.5
    assert found.returns == pytest.approx((1 + 3.5) / 2)
    assert found.episodes == 8


def test_what_solves_a_task_is_judged_on_whole_evaluations():
    assert replace(TRAIN, stop_success=0.9).promising == 0.8
    assert replace(TRAIN, stop_success=0.5).promising == 0.5


def test_between_two_resets_the_checkpoint_of_a_step_is_gone_on_from(tmp_path, monkeypatch):
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", -1.0)
    with pytest.raises(Killed):
        trainer(report=Kill(3)).run(tmp_path)
    resumed = trainer()
    resumed.restore(latest_checkpoint(tmp_path))
    assert resumed.progress.env_steps == 300 - TRAIN.num_envs  # the step before the evaluation
    assert 0 < len(resumed.actions) < resumed.progress.vector_step
    reports = []
    trainer(report=lambda done, *_: reports.append(done)).run(tmp_path)
    assert reports[0] == 300


def test_killed_between_two_resets_a_helped_training_ends_as_uninterrupted(tmp_path, monkeypatch):
    """The help follows the steps that are played again, so that its context is what it was."""

    class Counting(NoHelp):
        """Acts by the age of the episodes, which is its context."""

        def begin(self, tasks):
            return np.zeros(len(tasks), int)

        def reset(self, context, env_mask):
            return np.where(env_mask, 0, context)

        def predict(self, context, obs):
            zeros = np.zeros((len(obs), 2), np.float32)
            return context, MentorOutput(zeros, zeros, context.astype(np.float32))

        def act(self, own, output, context, env_steps):
            return np.where(context[:, None] % 3 == 0, np.float32(0.5), own)

        def observe(self, context, step):
            return context + 1

    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", -1.0)
    config = replace(TRAIN, steps=500)
    [whole] = trainer(config, help=Counting()).run()
    with pytest.raises(Killed):
        trainer(config, help=Counting(), report=Kill(3)).run(tmp_path)
    [resumed] = trainer(config, help=Counting()).run(tmp_path)
    assert_same_result(resumed, whole)


class KilledAt(NoHelp):
    """Kills the training at a vector step."""

    def __init__(self, step):
        self.left = step

    def observe(self, context, step):
        self.left -= 1
        if not self.left:
            raise Killed
        return context


def test_killed_while_its_last_episodes_are_played_on_it_ends_as_uninterrupted(tmp_path, monkeypatch):
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", -1.0)
    config = replace(TRAIN, warmup=120, stop_success=0.0, stop_evaluations=1)  # solved in its second episode
    [whole] = trainer(config).run()
    with pytest.raises(Killed):
        trainer(config, help=KilledAt(40)).run(tmp_path)
    resumed = trainer(config)
    resumed.restore(latest_checkpoint(tmp_path))
    assert resumed.finished
    assert resumed.actions
    [result] = trainer(config).run(tmp_path)
    assert_same_result(result, whole)
    assert result.episodes


# -- numbers that are not finite -------------------------------------------------------------------------------


def diverging(monkeypatch, after, harm):
    """After this many calls of the update, the agents or metrics that come of it are harmed."""
    calls, real = iter(range(10**6)), learner.update

    def update(*args):
        state, metrics = real(*args)
        return harm(state, metrics) if next(calls) >= after else (state, metrics)

    monkeypatch.setattr(learner, "update", update)


def harmed_actor(state, metrics):
    weights, rest = eqx.partition(state.agent.actor, eqx.is_inexact_array)
    actor = eqx.combine(jax.tree.map(lambda leaf: leaf * np.nan, weights), rest)
    return eqx.tree_at(lambda s: s.agent.actor, state, actor), metrics


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (harmed_actor, r"is not finite after \d+ environment steps"),
        (lambda state, metrics: (state, metrics | {"critic/loss": np.array([np.inf])}), "critic/loss is not"),
    ],
)
def test_a_training_that_diverges_stops_by_name_and_keeps_its_last_good_checkpoint(
    tmp_path, monkeypatch, harm, message
):
    monkeypatch.setattr("collectiverl.artifacts.checkpoints.SECONDS", -1.0)
    diverging(monkeypatch, 60, harm)
    with pytest.raises(FloatingPointError, match=message):
        trainer().run(tmp_path)
    kept = trainer()
    kept.restore(latest_checkpoint(tmp_path))
    assert kept.progress.env_steps > 300
    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(kept.learner.state, eqx.is_array))
    )


def test_seconds_go_on_from_those_of_earlier_attempts():
    assert 100 <= trainer(spent=100.0)._seconds() < 200
