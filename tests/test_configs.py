"""Configurations from YAML: what a file names is changed, and nothing unknown passes."""

import typing
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Literal

import pytest

from collectiverl.artifacts import configs
from collectiverl.pipeline.config import RunConfig
from collectiverl.sac.agent import SACConfig
from collectiverl.stages.base import Stage
from collectiverl.types import ConfigError, UserError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    width: int = 8

    def __post_init__(self):
        if self.width < 1:
            raise ConfigError("width", f"{self.width} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Outer:
    tasks: tuple[str, ...] = ("a",)
    scales: tuple[float, ...] = ()
    kind: Literal["x", "y"] = "x"
    limit: int | None = None
    flag: bool = False
    name: str = ""
    inner: Inner = field(default_factory=Inner)


def load(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return configs.load(path, Outer())


def test_what_is_named_changes_and_all_else_stays(tmp_path):
    loaded = load(tmp_path, "tasks: [b, c]\nkind: y\nlimit: 3\nflag: true\ninner: {rate: 1}\n")
    assert loaded == Outer(tasks=("b", "c"), kind="y", limit=3, flag=True, inner=Inner(rate=1.0))
    assert isinstance(loaded.inner.rate, float)


def test_an_empty_file_changes_nothing(tmp_path):
    assert load(tmp_path, "") == Outer()


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1.0e-3"])
def test_floats_may_be_written_without_a_dot(tmp_path, text):
    assert load(tmp_path, f"inner: {{rate: {text}}}").inner.rate == 1e-3


def test_whole_numbers_in_a_list_of_floats_are_floats(tmp_path):
    assert load(tmp_path, "scales: [1, 2.5, 1e-3]").scales == (1.0, 2.5, 1e-3)


def test_an_optional_setting_may_be_null(tmp_path):
    assert load(tmp_path, "limit: null").limit is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inner: {widht: 3}", "config.yaml: inner has no setting 'widht': did you mean 'width'"),
        ("zzz: 3", "no setting 'zzz': it may have tasks"),
        ("inner: {width: 0}", r"config\.yaml: inner\.width: 0 must be at least 1"),
        ("inner: {width: 2.5}", r"inner\.width: 2\.5 is not of type int"),
        ("inner: {width: true}", "True is not of type int"),
        ("inner: {rate: fast}", "'fast' is not of type float"),
        ("inner: {rate: true}", "True is not of type float"),
        ("inner: 3", "inner: 3 should be a mapping"),
        ("kind: z", "kind: 'z' is not of type"),
        ("tasks: a", "tasks: 'a' is not of type"),
        ("tasks: [1]", "is not of type"),
        ("flag: 1", "flag: 1 is not of type bool"),
        ("limit: many", "limit: 'many' is not of type"),
        ("name: 3", "name: 3 is not of type str"),
        ("- a", "should be a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_nonsense_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*nothing\.yaml"):
        configs.load(tmp_path / "nothing.yaml", Outer())


def test_a_real_config_is_checked_by_its_own_rules(tmp_path):
    with pytest.raises(UserError, match=r"here: gamma: 2\.0 is not in \(0, 1\]"):
        configs.change(SACConfig(), {"gamma": 2}, "here")


@dataclass(frozen=True, kw_only=True)
class Whole:
    expert: Outer = field(default_factory=Outer)


def test_a_value_is_refused_under_its_whole_path():
    with pytest.raises(UserError, match=r"^run\.yaml: expert\.inner\.width: 0 must be at least 1$"):
        configs.change(Whole(), {"expert": {"inner": {"width": 0}}}, "run.yaml")
    with pytest.raises(
        UserError, match=r"^run\.yaml: expert\.inner has no setting 'wdth': did you mean 'width'"
    ):
        configs.change(Whole(), {"expert": {"inner": {"wdth": 0}}}, "run.yaml")


# -- numbers that are not finite -----------------------------------------------------------------------------


def settings_of(config, path=()):
    """All settings of a config that take a float, by their path."""
    hints = typing.get_type_hints(type(config))
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value):
            yield from settings_of(value, (*path, one.name))
        elif float in configs.union_options(hints[one.name]):
            yield (*path, one.name)


FLOATS = sorted(settings_of(RunConfig()))


@pytest.mark.parametrize("text", [".nan", ".inf", "-.inf", "1e39", "-1e39"])
def test_no_float_of_a_run_may_be_infinite_or_nan(tmp_path, text):
    assert len(FLOATS) > 30
    path = tmp_path / "config.yaml"
    for names in FLOATS:
        path.write_text("".join(f"{'  ' * i}{name}:\n" for i, name in enumerate(names))[:-1] + f" {text}\n")
        with pytest.raises(
            UserError, match=rf"config\.yaml: {'.'.join(names[:-1])}.*{names[-1][:7].replace('_', '.')}"
        ):
            configs.load(path, RunConfig())


def test_a_stage_refuses_what_its_config_does_not_check():
    @dataclass(frozen=True, kw_only=True)
    class Unchecked:
        inner: Inner = field(default_factory=Inner)

    config = Unchecked(inner=Inner(rate=float("nan")))
    with pytest.raises(ConfigError, match=r"inner\.rate: nan must be finite"):
        Stage(kind="test", subject="", out="a", function=lambda work: {}, config=config)


def test_networks_that_no_machine_holds_are_refused(tmp_path):
    for text in ("expert: {sac: {depth: 10000000}}", "expert: {sac: {width: 10000000}}"):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        with pytest.raises(UserError, match=r"expert\.sac\.\w+: 10000000 must be at most"):
            configs.load(path, RunConfig())


# -- configs that are built ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": "8"}, "about: width: '8' is not of type int"),
        ({"width": 8.0}, "about: width: 8.0 is not of type int"),
        ({"width": True}, "about: width: True is not of type int"),
        ({"width": 0}, "width: 0 must be at least 1"),
        ({"width": 10**400}, "is not of type|must be"),
        ({"rate": float("nan")}, "rate: nan must be finite"),
        ({"rate": 10**400}, "is not of type float"),
        ({"depth": 3}, "about has no setting 'depth'"),
        ([], "should be a mapping"),
        (None, "should be a mapping"),
    ],
)
def test_what_a_file_says_of_a_module_is_checked_for_its_types(values, message):
    with pytest.raises(UserError, match=message):
        configs.build(Bounded, values, "about")


@dataclass(frozen=True, kw_only=True)
class Bounded(Inner):
    def __post_init__(self):
        super().__post_init__()
        if self.width > 100:
            raise ConfigError("width", f"{self.width} must be at most 100")


def test_a_config_is_built_from_what_was_saved_of_it():
    assert configs.build(Bounded, {"width": 3}, "") == Bounded(width=3)
    said = configs.reader({"tasks": ["a", "b"], "size": 3, "huge": 10**9}, "about")
    assert said("tasks", tuple[str, ...]) == ("a", "b")
    assert said("size", int) == 3
    with pytest.raises(UserError, match="about: huge is 1000000000, which is no size"):
        said("huge", int)
    with pytest.raises(UserError, match="about does not say colour"):
        said("colour", str)
