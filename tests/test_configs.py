"""Configurations from YAML: what a file names is changed, and nothing unknown passes."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from collectiverl.artifacts import configs
from collectiverl.sac.agent import SACConfig
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
    with pytest.raises(UserError, match=r"cannot read --config .*nothing\.yaml"):
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
