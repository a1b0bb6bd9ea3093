"""What the sections of a config are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]

Probability = Annotated[float, Field(gt=0, lt=1, strict=True)]

Count = Annotated[int, Field(ge=1, strict=True)]

Flag = Annotated[bool, Field(strict=True)]

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]

Move = Annotated[float, Field(gt=-1, allow_inf_nan=False)]


class Keys(BaseModel):
    """A frozen group of keys; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
