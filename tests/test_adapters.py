"""Policies of other libraries are read as data: they play as the library says, and nothing in a file is run."""

import base64
import io
import json
import math
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectiverl.adapters import pickles
from collectiverl.adapters.networks import NetworkPolicy, load_network, save_network
from collectiverl.adapters.objects import ObjectPolicy
from collectiverl.adapters.sb3 import read_zip
from collectiverl.artifacts import sealed
from collectiverl.envs.make import spec
from collectiverl.envs.scripted import SIGMA
from collectiverl.imports import load_object
from collectiverl.policies import load_policy
from collectiverl.types import TeachingPolicy, UserError

FOREIGN = Path(__file__).parent / "fixtures" / "foreign"
SAID = np.load(FOREIGN / "said.npz")
OBS, ACTIONS = SAID["obs"], SAID["actions"]
FILES = sorted(path.stem for path in FOREIGN.glob("*.zip"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_acts_and_labels_as_its_library_says(name):
    policy = NetworkPolicy(read_zip(FOREIGN / f"{name}.zip"))
    np.testing.assert_allclose(policy.eval_action(OBS), SAID[f"{name}/action"], atol=1e-6)
    labels = policy.label(OBS, ACTIONS)
    np.testing.assert_allclose(labels.mean, SAID[f"{name}/action"], atol=1e-6)
    if name == "ppo":
        assert labels.q is None  # its critic values states
        return
    np.testing.assert_allclose(labels.q, SAID[f"{name}/q"], atol=1e-6)
    assert labels.unit == (1.0, 0.9 if name.startswith("sac") else 0.99)
    if "td3" in name:
        assert np.all(labels.log_std == np.float32(np.log(SIGMA)))
    else:
        np.testing.assert_allclose(labels.log_std, SAID[f"{name}/log_std"], atol=1e-6)


def test_a_gaussian_that_is_not_squashed_is_stretched_by_the_slope_of_tanh():
    labels = NetworkPolicy(read_zip(FOREIGN / "ppo.zip")).label(OBS, ACTIONS)
    own = np.exp(labels.log_std) * (1 - labels.mean**2)  # the deviation behind tanh, for small ones
    np.testing.assert_allclose(own, np.broadcast_to(np.exp(SAID["ppo/log_std"]), own.shape), rtol=1e-5)


def test_networks_survive_the_disk(tmp_path):
    for name in ("sac_toy-reach", "ppo", "sbx_sac"):
        network = read_zip(FOREIGN / f"{name}.zip")
        with sealed.stage(tmp_path / name, name="test", config={}, inputs={}) as folder:
            save_network(folder, network)
        one, other = NetworkPolicy(network), NetworkPolicy(load_network(tmp_path / name))
        for a, b in zip(one.label(OBS, ACTIONS), other.label(OBS, ACTIONS), strict=True):
            assert np.array_equal(a, b)


def test_the_shapes_are_those_of_the_task():
    assert isinstance(load_policy(FOREIGN / "td3.zip", task="toy-reach"), TeachingPolicy)
    with pytest.raises(UserError, match="observations of 6 entries and 2 actions, reach-v3 has 39 and 4"):
        load_policy(FOREIGN / "td3.zip", task="reach")


def acting(obs):
    return np.clip(obs[:, :2], -1, 1)


@pytest.mark.parametrize(
    "policy",
    [NetworkPolicy(read_zip(FOREIGN / "td3.zip")), ObjectPolicy(acting, "mine", spec("toy-reach"))],
    ids=["network", "object"],
)
def test_what_a_loop_gives_to_a_policy_from_elsewhere_is_checked_too(policy):
    """As promised of every policy: a refused call changes nothing."""
    before = policy.eval_action(OBS)
    odd = np.where(np.eye(*OBS.shape, dtype=bool), np.nan, OBS)
    for call in (
        lambda: policy.eval_action(odd),
        lambda: policy.eval_action(OBS[:, 1:]),
        lambda: policy.eval_action(OBS[0]),
        lambda: policy.label(odd, ACTIONS),
        lambda: policy.label(OBS, ACTIONS[1:]),
        lambda: policy.observe(np.full(len(OBS), np.inf)),
        lambda: policy.reset(np.arange(len(OBS))),
    ):
        with pytest.raises(UserError):
            call()
    assert np.array_equal(policy.eval_action(OBS), before)


# -- files that are refused --------------------------------------------------------------------------------


def rewritten(path: Path, source: str, parts=None, **changes) -> Path:
    """A copy of a file with other settings or parts."""
    with zipfile.ZipFile(FOREIGN / f"{source}.zip") as archive:
        old = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(old["data"])
    for name, value in changes.items():
        old_value = data.get(name)
        data[name] = old_value | value if isinstance(value, dict) and isinstance(old_value, dict) else value
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (old | {"data": json.dumps(data).encode()} | (parts or {})).items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("source", "changes", "why"),
    [
        ("td3", {"use_sde": True}, "state-dependent deviation"),
        ("td3", {"policy_class": {"__module__": "my.policies"}}, "of my.policies, not of Stable-Baselines3"),
        ("td3", {"policy_class": {"__module__": "stable_baselines3.dqn.policies"}}, "algorithm dqn"),
        ("sbx_td3", {"policy_class": {"__module__": "sbx.crossq.policies"}}, "SBX's algorithm crossq"),
        ("td3", {"policy_kwargs": {"activation_fn": "<class 'my.Sine'>"}}, "its activation is Sine"),
        ("td3", {"policy_kwargs": {"features_extractor_class": "<class 'my.CNN'>"}}, "features extractor"),
        ("td3", {"observation_space": {":type:": "<class 'gymnasium.spaces.dict.Dict'>"}}, "dictionaries"),
        ("ppo", {"action_space": {"low": "[-2. -2.]"}}, "its actions are not in"),
        ("sbx_td3", {"policy": "nothing"}, "it has no policy"),
        *(
            (source, {name: value}, f"its {name} is")
            for source in ("td3", "sbx_td3")
            for name, values in {
                "gamma": (None, [1], "0.99", math.nan, -0.1, 1.5, True),
                "num_timesteps": (None, {":type:": "x"}, math.inf, -5),
            }.items()
            for value in values
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_else_can_be_done(tmp_path, source, changes, why):
    path = rewritten(tmp_path / "other.zip", source, **changes)
    with pytest.raises(UserError, match=why) as refused:
        read_zip(path)
    assert f"unpickle:{path}" in str(refused.value)
    assert "can run any program on this machine" in str(refused.value)


class Evil:
    """What a pickle does when it is loaded."""

    def __init__(self, flag: Path):
        self.flag = flag

    def __reduce__(self):
        return os.mkdir, (str(self.flag),)


def torch_file(found: object) -> bytes:
    """As `torch.save` writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(found, protocol=2))
    return file.getvalue()


def test_a_program_in_a_file_does_not_run(tmp_path):
    flag = tmp_path / "was_run"
    weights = torch_file({"actor.mu.0.weight": Evil(flag)})
    path = rewritten(tmp_path / "evil.zip", "td3", parts={"policy.pth": weights})
    with pytest.raises(UserError, match=r"it names posix\.mkdir, which is no tensor"):
        read_zip(path)
    program = base64.b64encode(pickle.dumps({"actor_state": Evil(flag)})).decode()
    with pytest.raises(UserError, match="no parameters of actor_state"):
        read_zip(rewritten(tmp_path / "sbx.zip", "sbx_td3", policy={":serialized:": program}))
    assert not flag.exists()
    pickle.loads(pickle.dumps(Evil(flag)))
    assert flag.exists()  # it would have


@given(st.binary(max_size=200), st.integers(0, 9_000))
def test_broken_weights_are_refused_and_nothing_else_happens(noise, at):
    with zipfile.ZipFile(FOREIGN / "td3.zip") as archive:
        good = archive.read("policy.pth")
    broken = good[:at] + noise + good[at + len(noise) :]
    try:
        found = pickles.state_dict(broken)
    except pickles.NotData:
        return
    assert all(array.dtype.kind in "fiub" for array in found.values())


@given(st.binary(max_size=300))
def test_any_bytes_are_recorded_or_refused(data):
    try:
        pickles.recorded(data)
    except pickles.NotData:
        return


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (3, 3), (3, 1)),
        (5, (2,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (4, 4)),
        (0, (9,), (0,)),
    ],
)
def test_a_tensor_never_reads_behind_its_numbers(offset, size, stride):
    with pytest.raises(pickles.NotData):
        pickles._tensor(np.arange(6.0), offset, size, stride)


def test_a_tensor_is_seen_through_its_strides():
    assert pickles._tensor(np.arange(6.0), 0, (3, 2), (1, 3)).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert pickles._tensor(np.arange(6.0), 2, (2, 2), (2, 1)).tolist() == [[2, 3], [4, 5]]
    assert pickles._tensor(np.arange(6.0), 0, (0, 4), (4, 1)).shape == (0, 4)


class Storage:
    """What a pickle names as `torch.FloatStorage`."""


class Shared:
    """A tensor of all numbers of the one storage."""

    def __reduce__(self):
        return rebuilt, (Storage, 0, (1000,), (1,))


def rebuilt(*_):
    """What a pickle names as the function that makes a tensor."""


class TensorPickler(pickle._Pickler):
    """Writes as `torch.save` does."""

    def persistent_id(self, obj):
        return ("storage", "FloatStorage", "0", "cpu", 1000) if obj is Storage else None

    def save_global(self, obj, name=None):
        self.write(b"ctorch._utils\n_rebuild_tensor_v2\n" if obj is rebuilt else b"")

    dispatch = pickle._Pickler.dispatch | {type(rebuilt): save_global}


@pytest.mark.parametrize(("most", "count", "fits"), [(8000, 2, True), (8000, 3, False), (3999, 1, False)])
def test_tensors_that_share_their_numbers_take_no_more_memory_than_a_limit(monkeypatch, most, count, fits):
    described, file = io.BytesIO(), io.BytesIO()
    TensorPickler(described, 2).dump({f"w{i}": Shared() for i in range(count)})
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", described.getvalue())
        archive.writestr("archive/data/0", bytes(4000))
    monkeypatch.setattr(pickles, "MOST_BYTES", most)
    if fits:
        one, other = pickles.state_dict(file.getvalue()).values()
        assert np.shares_memory(one, other)
        return
    with pytest.raises(pickles.NotData, match="bytes"):
        pickles.state_dict(file.getvalue())


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("code", ["<f4", ">f4", "<f8", "f2"])
def test_recorded_arrays_are_those_that_were_pickled(protocol, code):
    for array in (np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3).T):
        data = pickle.dumps(array.astype(code), protocol=protocol)
        assert np.array_equal(pickles.array_of(pickles.recorded(data)), array)
    with pytest.raises(pickles.NotData):
        pickles.array_of(pickles.recorded(pickle.dumps(np.array([{}]), protocol=protocol)))


# -- objects of the user's ---------------------------------------------------------------------------------

TOY = spec("toy-reach")


class Agent:
    """Only what Meta-World's protocol asks for."""

    def eval_action(self, observations):
        return np.full((len(observations), 2), 3.0)

    def reset(self, env_mask):
        self.mask = env_mask


class Model:
    """As models of Stable-Baselines3 act."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation), 2), 0.5 if deterministic else -0.5), state


class Teacher(Agent):
    def __init__(self, *said):
        self.said = said

    def label(self, obs, action):
        return self.said


def test_an_agent_a_model_and_a_function_act():
    mask = np.ones(20, bool)
    for acting, value in ((Agent(), 1.0), (Model(), 0.5), (lambda obs: np.full((len(obs), 2), -0.2), -0.2)):
        policy = ObjectPolicy(acting, "mine", TOY)
        policy.reset(mask)
        policy.observe(np.zeros(20, np.float32))
        assert np.all(policy.eval_action(OBS) == np.float32(value))  # in [-1, 1]
        labels = policy.label(OBS, ACTIONS)
        assert np.all(labels.mean == np.float32(value))
        assert np.all(labels.log_std == np.float32(np.log(SIGMA)))
        assert labels.q is None


def test_what_an_object_says_of_a_step_is_its_label():
    mean, spread, q = np.full((20, 2), 0.3), np.full((20, 2), -1.0), np.arange(20.0)
    labels = ObjectPolicy(Teacher(mean, spread, q, (1.0, 0.9)), "mine", TOY).label(OBS, ACTIONS)
    assert np.all(labels.log_std == -1)
    assert np.array_equal(labels.q, q)
    assert labels.unit == (1.0, 0.9)
    assert ObjectPolicy(Teacher(mean, None), "mine", TOY).label(OBS, ACTIONS).q is None
    for one in (-1.0, [-1.0, -1.0]):
        labels = ObjectPolicy(Teacher(mean, one), "mine", TOY).label(OBS, ACTIONS)
        assert np.array_equal(labels.log_std, spread)


def failing(obs):
    raise ZeroDivisionError("oh")


@pytest.mark.parametrize(
    ("acting", "why"),
    [
        (
            lambda obs: np.zeros((len(obs), 3)),
            r"action of shape \(20, 3\) for 20 observations of toy-reach: .*\(20, 2\)",
        ),
        (lambda obs: np.zeros(2), r"action of shape \(2,\)"),
        (lambda obs: np.full((20, 2), np.nan), "not finite"),
        (lambda obs: "up", "no array as action, but str 'up'"),
        (failing, r"mine failed when it was to act: ZeroDivisionError: oh \(.*test_adapters.py, line \d+\)"),
        (Teacher(np.zeros((20, 2)), None, np.zeros(20)), "values without their unit"),
        (Teacher(), "give a tuple"),
        (Teacher(np.zeros((20, 2)), np.zeros(20)), r"log_std of shape \(20,\).*\(20, 2\)"),
        (Teacher(np.zeros((20, 2)), np.zeros((20, 3))), r"log_std of shape \(20, 3\)"),
        (Teacher(np.zeros((20, 2)), "wide"), "no array as log_std, but str 'wide'"),
        (Teacher(np.zeros((20, 2)), np.full(2, np.nan)), "log_std with entries that are not finite"),
        *(
            (Teacher(np.zeros((20, 2)), None, np.zeros(20), unit), "as the unit of its values: give")
            for unit in (
                0.99,
                (1.0,),
                ("a", "b"),
                (1.0, 0.9, 3),
                (1.0, np.nan),
                (-1.0, 0.9),
                (0, 0.9),
                (1.0, 2.0),
            )
        ),
    ],
)
def test_what_an_object_does_wrong_is_said(acting, why):
    with pytest.raises(UserError, match=why):
        ObjectPolicy(acting, "mine", TOY).label(OBS, ACTIONS)


MODULE = """
import numpy as np

class Mine:
    def __init__(self, task=None):
        self.task = task
    def eval_action(self, observations):
        return np.zeros((len(observations), 2))
    def reset(self, env_mask):
        pass

def without(): return Mine()
def with_task(task): return Mine(task)
def broken(task): raise OSError("no file")
here = Mine("here")
number = 3
"""


@pytest.fixture
def my_module(tmp_path, monkeypatch):
    (tmp_path / "my_own_experts.py").write_text(MODULE)
    (tmp_path / "my_bad_experts.py").write_text("import not_there_at_all")
    monkeypatch.chdir(tmp_path)


def test_an_object_is_found_by_its_name_in_the_working_folder(my_module):
    for name, task in (
        ("without", None),
        ("with_task", "toy-reach"),
        ("Mine", "toy-reach"),
        ("here", "here"),
    ):
        policy = load_policy(f"my_own_experts:{name}", task="toy-reach")
        assert policy.acting.task == task
        assert policy.eval_action(OBS).shape == (20, 2)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("my_own_experts:wihtout", "did you mean 'without'"),
        ("my_own_expert:without", "there is no module 'my_own_expert', neither in .* nor installed"),
        ("my_bad_experts:load", "my_bad_experts cannot be imported: it needs the module 'not_there_at_all'"),
        ("my_own_experts:broken", "failed when it was to make a policy for toy-reach: OSError: no file"),
        ("my_own_experts:number", "int 3: name a function that makes a policy"),
        ("my_own_experts:np.float32", "does not act|failed"),
    ],
)
def test_an_object_that_is_not_there_or_no_policy_is_said_so(my_module, name, why):
    with pytest.raises(UserError, match=why):
        load_policy(name, task="toy-reach")


@pytest.mark.parametrize("name", ["nothing", "a:", ":b", "a b:c", "a:b:c", "../a:b"])
def test_what_has_another_form_names_no_object(name):
    with pytest.raises(UserError, match=r"package\.module:name"):
        load_object(name)
