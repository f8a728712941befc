"""Model cards: the intervals and means are those of the figures, and several seeds are the unit."""

from dataclasses import replace

import pytest

from collectiverl.artifacts.sealed import to_jsonable
from collectiverl.evaluation.statistics import seeds_interval
from collectiverl.pipeline.presets import smoke
from collectiverl.reporting.cards import collective_card

TASKS = ("toy-reach", "toy-mirror")


def figures(seed: int, rates: tuple[float, float]) -> dict:
    rows = [
        {"policy": "collective", "task": task, "success_any": rate, "success_last": rate / 2, "episodes": 50}
        for task, rate in zip(TASKS, rates, strict=True)
    ]
    means = {"success_any": sum(rates) / 2, "success_last": sum(rates) / 4}
    return {
        "seed": seed,
        "policies": rows,
        "mean": {"collective": means},
        "versions": {"collectiverl": "0.1.0"},
    }


@pytest.mark.parametrize(
    ("rates", "unit"),
    [(((0.8, 1.0),), "episodes"), (((0.8, 1.0), (0.9, 1.0), (1.0, 1.0)), "seeds")],
)
def test_a_card_says_what_was_measured_and_how_sure_it_is(rates, unit):
    card = collective_card(
        "mine", to_jsonable(smoke()), [figures(seed, pair) for seed, pair in enumerate(rates)]
    )
    low, high = seeds_interval([round(50 * pair[0]) for pair in rates], [50] * len(rates))
    mean = sum(pair[0] for pair in rates) / len(rates)
    assert f"| `toy-reach` | {mean:.3f} | {low:.3f} to {high:.3f} |" in card
    assert f"the interval is over {unit}" in card
    assert 'load_policy("mine")' in card
    assert ", ".join(f"{sum(pair) / 2:.3f}" for pair in rates) in card


def test_a_card_names_the_teachers():
    for experts, words in (("scripted", "scripted policies"), ("shipped", "come with the package")):
        assert words in collective_card(
            "m", to_jsonable(replace(smoke(), teacher=experts)), [figures(0, (1.0, 1.0))]
        )


def test_a_card_names_the_tasks_whose_teacher_is_an_expert_in_place_of_the_script():
    settings = to_jsonable(replace(smoke(), teacher="scripted", tasks=("peg-insert-side-v3",)))
    told = figures(0, (1.0, 1.0))
    told = told | {"policies": [told["policies"][0] | {"task": "peg-insert-side-v3"}]}
    assert "and for `peg-insert-side` the expert that comes with" in collective_card("m", settings, [told])
