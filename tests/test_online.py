"""Online distillation: who plays, what is labelled and seen, and that neither threads nor kills change the result."""

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectiverl.artifacts import checkpoints
from collectiverl.collective import online
from collectiverl.collective.online import OnlineDistillation, Rehearsal
from collectiverl.collective.playing import (
    STRETCH,
    Alternating,
    NoisyActions,
    PerTaskPolicy,
    allocate,
    groups,
    play_judged,
    play_together,
    success_by_task,
)
from collectiverl.collective.policy import CollectivePolicy
from collectiverl.collective.rounds import OnlineConfig
from collectiverl.data.episodes import EpisodeTable
from collectiverl.data.split import split
from collectiverl.envs.make import make_envs, spec
from collectiverl.envs.rollout import RandomPolicy
from collectiverl.envs.scripted import ScriptedPolicy
from collectiverl.envs.toy import MATRICES, STEP
from collectiverl.sac.agent import expert_of
from collectiverl.sac.policy import Expert
from collectiverl.types import ConfigError, UserError, ValueUnit
from toy_buffers import COLLECTIVE, SPEC, any_collective, any_encoder, labelled
from training import fresh, same

TASKS = ("toy-reach", "toy-swap")
CONFIG = OnlineConfig(
    random_episodes=2,
    expert_episodes=6,
    learner_rounds=2,
    learner_episodes=6,
    horizon=None,
    after_success=3,
    taught=0.5,
    first_updates=60,
    round_updates=30,
    num_envs=10,
)
QUICK = replace(CONFIG, first_updates=20, round_updates=10)


def make(config=QUICK, learning=COLLECTIVE, teachers=None, envs=make_envs, **kwargs):
    teachers = teachers or {task: ScriptedPolicy((task,)) for task in TASKS}
    return OnlineDistillation(
        partial(envs, goals="fresh"), teachers, config, learning, spec(TASKS[0]), seed=0, **kwargs
    )


@cache
def ran(config=QUICK, **kwargs) -> OnlineDistillation:
    one = make(config, **kwargs)
    one.run()
    return one


@pytest.fixture(scope="module")
def collected():
    return ran(CONFIG).collected


def of(episodes, phase):
    return [e for e in episodes if e.phase == phase]


def assert_same_episodes(found, wanted):
    for one, two in zip(found, wanted, strict=True):
        for name in ("obs", "action", "reward", "success"):
            assert np.array_equal(getattr(one, name), getattr(two, name))
        assert np.array_equal(one.labels.mean, two.labels.mean)
        assert (one.task, one.phase, one.seed, one.goal) == (two.task, two.phase, two.seed, two.goal)


# -- what is collected ---------------------------------------------------------------------------------------


def test_each_phase_has_its_episodes_of_each_task(collected):
    for task in TASKS:
        mine = [e for e in collected if e.task == task]
        assert [len(of(mine, phase)) for phase in ("random", "expert")] == [2, 6]
        assert len(of(mine, "learner")) >= 6 + 3  # even in the first round, at least half of that in the next
    assert len(of(collected, "learner")) == 2 * 6 * len(TASKS)


def test_labels_are_the_teachers_on_every_state(collected):
    for episode in collected:
        by_hand = ScriptedPolicy((episode.task,)).eval_action(episode.obs[:-1])
        np.testing.assert_array_equal(episode.labels.mean, by_hand)
        assert episode.labels.q is None


def test_the_recorded_action_is_the_executed_one(collected):
    """So the recorded movement follows from it, whoever acted, noise and stretches of the teacher included."""
    for e in collected:
        moved = e.obs[:-1, :2] + STEP * e.action @ MATRICES[e.task].T
        np.testing.assert_allclose(e.obs[1:, :2], np.clip(moved, -1, 1), atol=1e-5)


def test_some_of_the_teachers_episodes_are_noisy_and_their_labels_never(collected):
    deviation = [np.abs(e.action - e.labels.mean).max() for e in of(collected, "expert")]
    assert 0 < np.mean(np.array(deviation) == 0) < 1


def test_in_part_of_the_learners_episodes_the_teacher_plays_stretches(collected):
    learner = of(collected, "learner")
    taught = np.array([(e.action == e.labels.mean).all(axis=1)[:STRETCH].all() for e in learner])
    first = np.array([e.seed == learner[0].seed for e in learner])
    assert taught[~first].mean() < taught[first].mean()  # more of them in the first round
    assert 0 < taught[first].mean() < 1


def test_episodes_end_soon_after_success_but_for_a_share(collected):
    horizon = SPEC.horizon
    first = [int(e.success.argmax()) + 1 for e in collected if e.success.any()]
    ends = [len(e) for e in collected if e.success.any()]
    cut = [end == min(f + CONFIG.after_success, horizon) for f, end in zip(first, ends, strict=True)]
    assert all(c or end == horizon for c, end in zip(cut, ends, strict=True))
    assert np.mean(cut) > 0.5
    assert all(len(e) == horizon for e in collected if not e.success.any())


def test_no_start_is_played_twice(collected):
    starts = {(e.task, e.obs[0].tobytes()) for e in collected}
    assert len(starts) == len(collected)


def test_the_learner_improves():
    """Told nothing of the tasks, it earns more after its rounds than after the teachers' episodes alone."""

    def earned(rounds):
        collective = ran(replace(CONFIG, learner_rounds=rounds)).collective
        played = play_judged(
            partial(make_envs, goals="fresh"),
            TASKS,
            10,
            20,
            lambda tasks, seed: CollectivePolicy(collective, tasks),
            seed=0,
        )
        return np.mean([e.reward.sum() for e in played])

    assert earned(4) > 1.1 * earned(0)


def test_a_learned_teachers_labels_are_its_own_at_the_stored_state_and_action():
    agents = fresh(experts=3).agent
    unit = ValueUnit(reward_scale=1.0, gamma=0.9)
    teachers = {task: Expert(expert_of(agents, i), unit) for i, task in enumerate(TASKS)}
    one = make(replace(QUICK, learner_rounds=0, expert_episodes=2), teachers=teachers)
    for episode in one.run():
        wanted = teachers[episode.task].label(episode.obs[:-1], episode.action)
        for mine, other in zip(episode.labels, wanted, strict=True):
            np.testing.assert_array_equal(mine, other)
    assert EpisodeTable.join(one.sides()[0]).value_unit() == unit


def test_what_is_held_out_is_what_the_split_holds_out(collected):
    """So the learner has not seen what it is judged on later."""
    distillation = make(CONFIG)
    distillation.collected = collected
    for task, training in zip(TASKS, distillation.sides()[0], strict=True):
        mine = [e for e in collected if e.task == task]
        about = [{"phase": e.phase, "seed": e.seed, "goal": e.goal} for e in mine]
        train, _ = split(about, fraction=0.2, seed=0)
        assert [e.obs[0].tolist() for e in training] == [mine[i].obs[0].tolist() for i in train]


def test_without_a_transformer_there_is_nothing_to_read():
    cls = replace(COLLECTIVE, conditioning="cls")
    with pytest.raises(UserError, match="the conditioning cls needs a trajectory transformer"):
        make(learning=cls).run()
    one = make(replace(QUICK, learner_rounds=1), cls, transformer=any_encoder(COLLECTIVE.encoder))
    one.run()
    assert same(one.collective.encoder, any_encoder(COLLECTIVE.encoder))


# -- hidden goals --------------------------------------------------------------------------------------------


class Mirrored:
    """Environments, or teachers, whose observations show the goal with the other sign."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    @staticmethod
    def turned(obs):
        return np.where(np.isin(np.arange(obs.shape[-1]), SPEC.goal_index), -obs, obs)

    def reset(self, seed_or_mask):
        obs = self.inner.reset(seed_or_mask)
        return None if obs is None else self.turned(obs)

    def step(self, action):
        result = self.inner.step(action)
        return result._replace(obs=self.turned(result.obs))

    def eval_action(self, observations):
        return self.inner.eval_action(self.turned(observations))

    def label(self, obs, action):
        return self.inner.label(self.turned(obs), action)


def mirrored(hidden, **kwargs):
    """The same run in environments that show other goals; the teachers, who know, see the true ones."""
    return make(
        replace(QUICK, learner_rounds=1),
        teachers={task: Mirrored(ScriptedPolicy((task,))) for task in TASKS},
        envs=lambda *args, **more: Mirrored(make_envs(*args, **more)),
        goals_hidden=hidden,
        **kwargs,
    )


def test_hidden_goals_never_reach_the_learner_and_its_teachers_see_them():
    """Whatever goals the observations show it, it learns and does the same."""
    plain, other = ran(replace(QUICK, learner_rounds=1), goals_hidden=True), mirrored(True)
    other.run()
    assert same(other.training.state, plain.training.state)
    for one, two in zip(other.collected, plain.collected, strict=True):
        np.testing.assert_array_equal(one.action, two.action)
        np.testing.assert_array_equal(one.labels.mean, two.labels.mean)
        np.testing.assert_array_equal(one.obs, Mirrored.turned(two.obs))
    assert plain.collective.goals_hidden
    hidden = np.isin(SPEC.state_index, SPEC.goal_index)
    assert not np.asarray(plain.collective.scales.state.mean)[hidden].any()


def test_goals_that_are_shown_reach_it():
    plain, other = ran(replace(QUICK, learner_rounds=1)), mirrored(False)
    other.run()
    assert not same(other.training.state, plain.training.state)


def test_what_is_rehearsed_hides_its_goals_too():
    rehearsal = Rehearsal(any_collective(goals_hidden=True), [labelled()[0]], [labelled()[1]], share=0.5)
    one = make(goals_hidden=True, rehearsal=rehearsal)
    one.collected = ran().collected
    for table in itertools.chain(*one.sides()):
        assert not any(e.obs[:, SPEC.goal_index].any() for e in table)


# -- threads and kills ---------------------------------------------------------------------------------------


class Inline(ThreadPoolExecutor):
    """In place of a thread: plays at once, or, `late`, when the result is asked for."""

    late: bool

    def submit(self, function, *args):
        if self.late:
            return SimpleNamespace(result=lambda: function(*args))
        played = function(*args)
        return SimpleNamespace(result=lambda: played)


@pytest.mark.parametrize("late", [False, True])
def test_the_result_does_not_depend_on_the_players_thread(monkeypatch, late):
    expected = ran()
    monkeypatch.setattr(online, "ThreadPoolExecutor", Inline)
    monkeypatch.setattr(Inline, "late", late, raising=False)
    found = make()
    assert_same_episodes(found.run(), expected.collected)
    assert same(found.training.state, expected.training.state)


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("done", "when"),
    [(0, "expert"), (0, "learning"), (1, "learning"), (1, "learner"), (2, "success"), (2, "learning")],
)
def test_killed_in_any_round_and_resumed_it_ends_as_uninterrupted(tmp_path, done, when):
    def kill(rounds, total, note=""):
        if rounds == done and note.startswith(when):
            raise Killed

    expected = ran()
    with pytest.raises(Killed):
        make(report=kill).run(tmp_path)
    resumed = make()
    assert_same_episodes(resumed.run(tmp_path), expected.collected)
    assert same(resumed.training.state, expected.training.state)
    assert same(resumed.collective, expected.collective)
    assert (resumed.success, resumed.failure) == (expected.success, expected.failure)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_with_fresh_networks_a_round_keeps_nothing_of_the_round_before(tmp_path):
    """Also where it is killed and resumed, after the rounds have changed what statistics would be fitted to."""
    one, usual = make(fresh=True), ran()
    one.run()
    assert one.training.progress.updates == QUICK.round_updates
    assert usual.training.progress.updates == QUICK.first_updates + 2 * QUICK.round_updates
    assert same(one.collective.scales, usual.collective.scales)

    def kill(rounds, total, note=""):
        if rounds == 2 and note.startswith("learning"):
            raise Killed

    with pytest.raises(Killed):
        make(fresh=True, report=kill).run(tmp_path)
    resumed = make(fresh=True)
    assert_same_episodes(resumed.run(tmp_path), one.collected)
    assert same(resumed.collective, one.collective)


def test_each_round_is_told_to_whoever_copies_checkpoints(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(checkpoints, "WATCHERS", [told.append])
    make().run(tmp_path)
    assert told == [tmp_path] * (QUICK.learner_rounds + 1)


# -- rehearsal -----------------------------------------------------------------------------------------------


def test_a_learner_that_rehearses_goes_on_from_what_it_knows():
    training, validation = ([table] for table in labelled())
    known = any_collective("zeros")
    one = make(
        replace(QUICK, learner_rounds=0),
        replace(COLLECTIVE, conditioning="zeros"),
        teachers={"toy-turn": ScriptedPolicy(("toy-turn",))},
        rehearsal=Rehearsal(known, training, validation, share=0.25),
    )
    one.run()
    assert same(one.collective.scales, known.scales)
    assert not same(one.collective.agent.actor, known.agent.actor)
    for side, stored in zip(one.sides(), (training, validation), strict=True):
        assert side[0].about == stored[0].about
        assert set(side[1].tasks) == {"toy-turn"}
    segments = one._segments()
    new = np.array([*[t == "toy-turn" for t in training[0].tasks], *[True] * len(one.sides()[0][1])])
    assert segments.chance[new].sum() / segments.chance.sum() == pytest.approx(0.25)


# -- who acts, and how much ----------------------------------------------------------------------------------


def test_each_environment_is_played_by_the_policy_of_its_task():
    tasks = ("toy-swap", "toy-reach", "toy-swap")
    obs = np.random.default_rng(0).uniform(-1, 1, (3, 6)).astype(np.float32)
    policy = PerTaskPolicy({task: ScriptedPolicy((task,)) for task in TASKS}, tasks, SPEC)
    np.testing.assert_array_equal(policy.eval_action(obs), ScriptedPolicy(tasks).eval_action(obs))
    with pytest.raises(UserError, match="no policy plays toy-turn"):
        PerTaskPolicy({"toy-swap": RandomPolicy(2, 0)}, ("toy-swap", "toy-turn"), SPEC)


def test_one_policy_may_play_several_tasks_of_which_there_are_unequally_many():
    """As where an expert labels a task that looks like its own."""
    policy = ScriptedPolicy(("toy-reach",))
    make = partial(make_envs, goals="fresh")
    teachers = {"toy-reach": policy, "toy-swap": policy}

    def each(tasks, seed):
        return PerTaskPolicy(teachers, tasks, SPEC)

    [part] = play_together(make, {"toy-reach": 4, "toy-swap": 3}, 8, each, phase="expert", seed=0)
    counts = Counter(episode.task for episode in part)
    assert counts == {"toy-reach": 4, "toy-swap": 3}
    for episode in part:
        alone = np.stack([policy.eval_action(obs[None])[0] for obs in episode.obs[:-1]])
        np.testing.assert_array_equal(episode.action, alone)


def test_noise_has_its_deviation_in_each_environment():
    policy = ScriptedPolicy(("toy-reach",) * 3)
    noisy = NoisyActions(policy, np.array([0.0, 0.1, 0.3]), seed=0)
    obs = np.zeros((3, 6), np.float32)
    apart = np.stack([noisy.eval_action(obs) - policy.eval_action(obs) for _ in range(500)])
    np.testing.assert_allclose(apart.std(axis=(0, 2)), [0, 0.1, 0.3], rtol=0.1)


def test_the_learner_is_told_what_was_done_and_the_rewards_that_it_may_know():
    """Environment 0 is the learner's own, 1 the teacher's, and 2 the learner's without rewards."""
    learner = CollectivePolicy(any_collective())
    teacher, own = ScriptedPolicy(("toy-swap",) * 3), CollectivePolicy(any_collective())
    mixed = Alternating(learner, teacher, np.array([0.0, 1.0, 0.0]), np.array([True, True, False]), seed=0)
    mixed.reset(np.ones(3, bool))
    obs = np.random.default_rng(0).uniform(-1, 1, (3, 6)).astype(np.float32)
    action, alone = mixed.eval_action(obs), own.eval_action(obs)
    np.testing.assert_array_equal(action[[0, 2]], alone[[0, 2]])
    np.testing.assert_array_equal(action[1], teacher.eval_action(obs)[1])
    mixed.observe(np.float32([1, 2, 3]))
    np.testing.assert_array_equal(learner.running.action, action)
    np.testing.assert_array_equal(learner.running.reward, np.float32([1, 2, np.nan]))


class Idle(CollectivePolicy):
    def eval_action(self, observations):
        return np.full((len(observations), 2), 9.0)

    def executed(self, actions):
        pass


def test_the_teacher_plays_its_share_of_the_stretches():
    share = np.array([0.0, 0.5, 1.0])
    teacher = ScriptedPolicy(("toy-swap",) * 3)
    learner = Idle(any_collective())
    mixed, obs = Alternating(learner, teacher, share, np.ones(3, bool), seed=0), np.zeros((3, 6), np.float32)
    taught = np.stack([mixed.eval_action(obs)[:, 0] != 9 for _ in range(60 * STRETCH)])
    np.testing.assert_allclose(taught.mean(axis=0), share, atol=0.2)
    stretches = taught.reshape(60, STRETCH, 3)
    assert (stretches == stretches[:, :1]).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(1, 40))
def test_tasks_that_fail_more_get_more_episodes(rates, per_task):
    failure = {str(i): rate for i, rate in enumerate(rates)}
    wanted = allocate(failure, per_task)
    assert sum(wanted.values()) == per_task * len(rates)
    for one, other in itertools.pairwise(sorted(failure, key=failure.__getitem__)):
        assert wanted[other] >= wanted[one] >= max(1, per_task // 2)


def test_where_nothing_failed_all_get_alike():
    assert allocate({"a": 0.0, "b": 0.0}, 7) == {"a": 7, "b": 7}
    assert allocate({"a": 1.0, "b": 0.0}, 10) == {"a": 15, "b": 5}


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30)), st.integers(1, 20))
def test_groups_hold_everything_and_no_more_than_fits(wanted, size):
    found = list(groups(wanted, size))
    assert all(0 < sum(group.values()) <= size for group in found)
    total = Counter()
    for group in found:
        total.update(group)
    assert +total == +Counter(wanted)
    assert len(found) == -(-sum(wanted.values()) // size)


def test_success_is_that_of_any_step(collected):
    found = success_by_task(collected, (*TASKS, "toy-turn"))
    for task in TASKS:
        assert found[task] == np.mean([e.success.any() for e in collected if e.task == task])
    assert found["toy-turn"] == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"expert_episodes": 1}, "expert-episodes: at least 2"),
        ({"horizon": 0}, "horizon: 0 must be at least 1"),
        ({"learner_rounds": -1}, "learner-rounds: -1 must be at least 0"),
        ({"round_updates": 0}, "round-updates: 0 must be at least 1"),
        ({"taught": 1.5}, r"taught: 1\.5 is not in"),
        ({"noisy": -0.5}, r"noisy: -0\.5 is not in"),
    ],
)
def test_nonsense_is_refused_by_name(setting, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        OnlineConfig(**setting)
