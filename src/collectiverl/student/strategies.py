"""The strategies that help a student, alone or together, and their settings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from collectiverl.collective.policy import Collective
from collectiverl.student.finetune import FinetuningConfig
from collectiverl.student.imitation import Imitation, ImitationConfig
from collectiverl.student.jump_start import JumpStart, JumpStartConfig
from collectiverl.student.likelihood import Likelihood, LikelihoodConfig
from collectiverl.student.mentor import Mentor
from collectiverl.student.potential import Potential, PotentialConfig
from collectiverl.student.prior_data import PriorDataConfig
from collectiverl.student.strategy import Guidance, Strategy
from collectiverl.types import ConfigError, ValueUnit

Name = Literal["none", "finetune", "likelihood", "potential", "jump-start", "prior-data", "imitation"]
ALONE: tuple[Name, ...] = ("none", "finetune")  # the others can be combined
DEFAULT: tuple[Name, ...] = ("finetune",)


@dataclass(frozen=True, kw_only=True)
class StrategyConfig:
    """Which strategies are used, and the settings of each."""

    use: tuple[Name, ...] = DEFAULT  # one strategy or several; finetune and none, plain SAC, stand alone
    finetune: FinetuningConfig = field(default_factory=FinetuningConfig)
    likelihood: LikelihoodConfig = field(default_factory=LikelihoodConfig)
    potential: PotentialConfig = field(default_factory=PotentialConfig)
    jump_start: JumpStartConfig = field(default_factory=JumpStartConfig)
    prior_data: PriorDataConfig = field(default_factory=PriorDataConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)

    def __post_init__(self) -> None:
        twice, mixed = len(set(self.use)) < len(self.use), len(self.use) > 1 and set(self.use) & set(ALONE)
        if not self.use or twice or mixed:
            named = " ".join(self.use) or "nothing"
            raise ConfigError(
                "use", f"{named} is no choice: name {' or '.join(ALONE)}, or other strategies, each once"
            )

    @property
    def finetunes(self) -> bool:
        """Whether the student continues the collective's own networks."""
        return self.use == ("finetune",)

    @property
    def played_first(self) -> bool:
        """Whether the collective plays before the student acts."""
        return self.finetunes or "prior-data" in self.use

    @property
    def active(self) -> "StrategyConfig | None":
        """None for plain SAC, so unused settings don't change the stage."""
        return None if self.use == ("none",) else self


def strategies(config: StrategyConfig) -> list[Strategy]:
    """The strategies that act while the student learns; `prior-data` is not one of them."""
    made: dict[str, Callable[[], Strategy]] = {
        "likelihood": lambda: Likelihood(config.likelihood),
        "potential": lambda: Potential(config.potential),
        "jump-start": lambda: JumpStart(config.jump_start),
        "imitation": lambda: Imitation(config.imitation),
    }
    return [made[name]() for name in config.use if name in made]


def guidance(collective: Collective, unit: ValueUnit, config: StrategyConfig) -> Guidance:
    """The help of a collective; `unit` is that of its critic's values."""
    return Guidance(Mentor(collective, unit), tuple(strategies(config)))
