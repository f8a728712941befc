"""What whole configurations stand for, whatever the defaults become."""

from dataclasses import replace

import pytest

from collectiverl.envs.tasks import resolve
from collectiverl.pipeline.plan import stages
from collectiverl.pipeline.presets import PRESETS, mt10, reference
from collectiverl.types import ConfigError


def test_the_reference_has_the_hyper_parameters_of_the_thesis():
    train = reference().expert
    sac = train.sac
    assert (sac.gamma, sac.tau, sac.learning_rate) == (0.99, 0.005, 3e-4)
    assert (sac.temperature_learning_rate, sac.initial_temperature) == (1e-4, 0.01)
    assert (sac.batch_size, sac.n_step, sac.reward_scale) == (512, 1, 1.0)
    assert (train.capacity, train.num_envs, train.updates_per_step, train.horizon) == (140_000, 1, 1, 400)
    assert train.noise_hold == 1
    assert reference().demo_tasks == ()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_collective_counts_value_as_its_teachers_do(preset):
    config = PRESETS[preset]()
    for name in ("gamma", "reward_scale"):
        assert getattr(config.collective.sac, name) == getattr(config.expert.sac, name)


@pytest.mark.parametrize(("preset", "size"), [("ml10", 10), ("ml45", 45)])
def test_presets_of_meta_learning_hide_goals_and_never_teach_the_test_tasks(preset, size):
    config = PRESETS[preset]().resolved()
    every = stages(config, "collective")
    taught = {task for s in every if s.kind == "online-distill" for task in s.config.tasks}
    assert len(taught) == size
    assert not taught & set(resolve([f"{preset}-test"]))
    assert all(s.config.goals_hidden for s in every if s.kind in ("online-distill", "distill-collective"))
    assert config.teacher == "scripted"
    assert config.collective.probing.amplitude > 0
    assert config.collective.unrewarded == 0  # only rewards tell where to go


def test_demonstrations_are_for_the_tasks_that_are_named():
    made = {s.subject: s.config.demos for s in stages(mt10().resolved()) if s.kind == "train-task"}
    assert {task for task, demos in made.items() if demos} == set(resolve(mt10().demo_tasks))
    assert len(made) == 10


def test_a_shared_expert_learns_what_it_would_label_if_the_suite_is_right():
    config = replace(mt10(), tasks=("MT50",), shared=("push-wall", "pick-place-wall"), vectorize=True)
    every = stages(config.resolved(), "experts")
    also = {s.config.task: s.config.also for s in every if s.kind == "train-task" and s.config.also}
    look_alikes = resolve(["reach", "pick-place", "reach-wall"])
    assert set(also) == set(resolve(["push-wall", "pick-place-wall"]))
    assert also["push-wall-v3"] == ("push-v3",)
    assert set(also["pick-place-wall-v3"]) == set(look_alikes)
    alone = {e.task for s in every if s.kind == "train-together" for e in s.config.experts}
    assert alone == set(resolve(["MT50"])) - set(also)
    with pytest.raises(ConfigError, match="shared: no other task is labelled by the script of reach"):
        replace(config, shared=("reach",)).resolved()
    without = replace(config, tasks=("push-wall", "reach"))  # nothing begins like them
    assert not any(s.config.also for s in stages(without.resolved(), "experts") if s.kind == "train-task")


@pytest.mark.parametrize("demo_tasks", [(), ("push",), ("push", "reach")])
def test_in_one_program_are_those_that_begin_alike(demo_tasks):
    """And one by itself is trained as ever."""
    config = replace(mt10(), vectorize=True, demo_tasks=demo_tasks).resolved()
    every = stages(config, "experts")
    groups = [{e.task for e in s.config.experts} for s in every if s.kind == "train-together"]
    begun = set(config.demo_tasks)
    assert [g for g in groups if g == begun] == ([begun] if len(begun) > 1 else [])
    assert set(config.tasks) - begun in groups
    assert {s.subject for s in every if s.kind == "train-task"} == set(config.tasks)


def test_the_quickstart_has_a_policy_that_is_told_nothing_made_like_its_collective():
    every = {s.kind: s.config for s in stages(PRESETS["quickstart"]().resolved())}
    untold, learner, last = (every[kind] for kind in ("told-nothing", "online-distill", "distill-collective"))
    assert (untold.online, untold.goals_hidden, untold.teacher) == (learner.online, True, learner.teacher)
    assert untold.collective == replace(last.collective, conditioning="zeros")


def test_a_second_policy_that_is_told_nothing_is_refused():
    config = mt10()
    with pytest.raises(ConfigError, match="told-nothing: makes a second one"):
        replace(config, told_nothing=True, collective=replace(config.collective, conditioning="zeros"))


@pytest.mark.parametrize("preset", PRESETS)
def test_no_two_stages_of_a_run_have_the_same_name_on_the_screen(preset):
    labels = [stage.label for stage in stages(PRESETS[preset]().resolved())]
    assert len(set(labels)) == len(labels)
