"""The strategies that help a student, alone or together, and their settings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from collectiverl.collective.policy import Collective
from collectiverl.student.imitation import Imitation, ImitationConfig
from collectiverl.student.jump_start import JumpStart, JumpStartConfig
from collectiverl.student.likelihood import Likelihood, LikelihoodConfig
from collectiverl.student.mentor import Mentor
from collectiverl.student.potential import Potential, PotentialConfig
from collectiverl.student.prior_data import PriorDataConfig
from collectiverl.student.strategy import Guidance, Strategy
from collectiverl.types import ConfigError, ValueUnit

Name = Literal["none", "likelihood", "potential", "jump-start", "prior-data", "imitation"]
DEFAULT: tuple[Name, ...] = ("prior-data", "imitation")


@dataclass(frozen=True, kw_only=True)
class StrategyConfig:
    """Which strategies are used, and the settings of each."""

    use: tuple[Name, ...] = DEFAULT  # one strategy or several; none: plain SAC
    likelihood: LikelihoodConfig = field(default_factory=LikelihoodConfig)
    potential: PotentialConfig = field(default_factory=PotentialConfig)
    jump_start: JumpStartConfig = field(default_factory=JumpStartConfig)
    prior_data: PriorDataConfig = field(default_factory=PriorDataConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)

    def __post_init__(self) -> None:
        if not self.use or len(set(self.use)) < len(self.use) or ("none" in self.use and len(self.use) > 1):
            named = " ".join(self.use) or "nothing"
            raise ConfigError(
                "use", f"{named} is no choice: name none for plain SAC, or other strategies, each once"
            )

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
