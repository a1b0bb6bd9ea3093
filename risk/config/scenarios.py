"""Which scenarios a night runs, and how each set is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from risk.config.keys import Count, Flag, Fraction, Keys, Move, NonNegative, Probability

#: How historical windows become scenarios: docs/methods/historical.md.
Method = Literal["plain", "age_weighted", "volatility_scaled", "filtered"]


class Historical(Keys):
    """Overlapping windows of the price history, replayed on today's book."""

    windows: Count
    method: Method = "plain"
    #: Further methods, each a set of its own: ``historical_filtered``, ...
    also: tuple[Method, ...] = ()
    #: Share of a day's adverse excursion that lands as one jump; ``calibrated``: measured on the
    #: five-minute bars of the history.
    gap: Fraction | Literal["calibrated"]
    #: Bars the windows are cut from, and hours from one window to the next.
    interval: Literal["1d", "1h"] = "1d"
    step_hours: Count = 24
    #: Age weights: weight of a window over that of the window a day younger.
    age_decay: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.995
    #: Volatility scaling: exponential weight of the past.
    volatility_decay: Probability = 0.94

    @model_validator(mode="after")
    def _each_method_once(self) -> Historical:
        if len(self.sets) != 1 + len(self.also):
            raise ValueError("also: name every method once, and not the one in method")
        rescaled = {"volatility_scaled", "filtered"} & set(self.sets.values())
        if self.interval == "1h" and rescaled:
            raise ValueError(f"{', '.join(sorted(rescaled))} rescales days; set interval: 1d")
        if self.interval == "1d" and self.step_hours % 24:
            raise ValueError("step_hours counts whole days; set interval: 1h")
        return self

    @property
    def sets(self) -> dict[str, Method]:
        """Scenario sets and the method of each, the main one first."""
        others = {f"historical_{name}": name for name in self.also if name != self.method}
        return {"historical": self.method, **others}


class MonteCarlo(Keys):
    """Simulated paths."""

    paths: Count
    steps: Count
    #: Law of a day's move: docs/methods/monte_carlo.md.
    model: Literal["student_t", "t_copula"] = "student_t"
    #: Which volatilities stand for tomorrow.
    volatility: Literal["ewma", "garch"] = "ewma"
    #: Scenarios per block: the unit of randomness, so another value draws other paths.
    block: Count = 4096
    #: Common and idiosyncratic jumps on top of the diffusion.
    jumps: Flag = True
    #: Where the normals come from.
    sampling: Literal["plain", "antithetic", "sobol"] = "plain"
    #: How many times as often common jumps come in half of the paths; weights put it right.
    jump_tilt: Annotated[float, Field(ge=1, le=1000, strict=True)] = 1.0

    @model_validator(mode="after")
    def _tilt_needs_jumps(self) -> MonteCarlo:
        if self.jump_tilt > 1 and not self.jumps:
            raise ValueError("jump_tilt needs jumps: true")
        return self


class Peg(Keys):
    """A stablecoin that may lose its peg in simulated paths."""

    #: That it does on one day.
    probability: Fraction
    #: US dollars it is worth from then on.
    price: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]


class Carry(Keys):
    """What moves contracts apart from their asset: docs/methods/carry.md."""

    #: Whether perpetuals pay funding in historical windows and simulated paths.
    funding: Flag = True
    #: Funding is folded into the price where it moves a trigger by less than this share of it;
    #: null: always.
    fold_below: NonNegative | None = 1e-4
    #: Standard deviation of a future's basis per square root of a day, in simulated paths.
    basis_volatility: NonNegative = 0.0
    #: Settle currencies that may lose their peg in simulated paths.
    pegs: Mapping[str, Peg] = Field(default_factory=dict)


class Stress(Keys):
    """Named stresses, one file each."""

    folder: Path


class Grid(Keys):
    """Tables of price moves: all assets together by volatility, and each asset alone."""

    #: Fractions of the mark.
    moves: Annotated[tuple[Move, ...], Field(min_length=1)] = (
        -0.7, -0.5, -0.4, -0.3, -0.2, -0.15, -0.1, -0.05, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0,
    )  # fmt: skip
    #: Multiples of today's volatility the price wanders with on its way; 0: straight.
    volatility: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (
        0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0,
    )  # fmt: skip
    gap: Fraction = 0.3


class Reverse(Keys):
    """The smallest moves that exhaust a fund or breach a limit."""

    #: How far moves are looked for, as fractions of the mark.
    fall: Annotated[float, Field(gt=-1, lt=0)] = -0.95
    rise: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.0
    gap: Fraction = 0.3
    #: USD; beside the venues' funds, the total of all deficits and of the holders' losses.
    deficit_limit: Annotated[float, Field(gt=0)] | None = None
    loss_limit: Annotated[float, Field(gt=0)] | None = None


class Scenarios(Keys):
    """The scenario sets of the night; a set that is left out is not run."""

    historical: Historical | None = None
    monte_carlo: MonteCarlo | None = None
    stress: Stress | None = None
    #: Contracts move with their asset alone where null.
    carry: Carry | None = Carry()
    #: No scenario sets: tables and searches on the same ladders.
    grid: Grid | None = None
    reverse: Reverse | None = None

    @field_validator("carry", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        # On and off without settings are the usual way to write it.
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _at_least_one(self) -> Scenarios:
        if not self.names:
            raise ValueError(
                "no scenario set; name at least one of historical, monte_carlo, stress"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The sets to run, in their canonical order."""
        past = tuple(self.historical.sets) if self.historical else ()
        others = ("monte_carlo", "stress")
        return (*past, *(name for name in others if getattr(self, name) is not None))
