"""What the night before leaves to tonight: its facts, and why value at risk moved since."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr
from pydantic import ValidationError

from risk.config import Config
from risk.errors import ConfigError, DataError
from risk.explain import explain, load_day
from risk.pipeline.night import Night
from risk.store import Run

_CONFIDENCE = 0.99


def compare_with_before(night: Night, book: pa.Table, assets: list[str]) -> None:
    """Keep the facts of the night before, and explain the change since if the config asks."""
    before = night.previous
    if before is None:
        return
    notes = {"as_of": before.as_of.isoformat(), "run_id": before.id}
    facts = before.facts.select(["fact_id", "value"])
    pq.write_table(facts.replace_schema_metadata(notes), night.folder / "previous.parquet")
    if not night.config.explain:
        return
    try:
        table = _explained(night, before)
        table = table.replace_schema_metadata(notes)
    except (ConfigError, DataError) as error:
        table = pa.table({}).replace_schema_metadata(notes | {"reason": str(error)})
    pq.write_table(table, night.folder / "explain.parquet")


def _explained(night: Night, before: Run) -> pa.Table:
    """Why value at risk moved, for the first scenario set both nights have."""
    config = night.config
    try:
        old = Config.model_validate(json.loads(json.dumps(before.manifest["config"])))
    except ValidationError:
        raise ConfigError("the night before has a config of another version") from None
    old = old.model_copy(
        update={
            "as_of": before.as_of,
            "snapshot": config.snapshot,
            "history": config.history,
            "venues": config.venues,
        }
    )
    new = config.model_copy(update={"as_of": night.as_of})
    was = before.manifest["inputs"]
    changed = [
        name
        for name, digest in was.items()
        if name.startswith("snapshot/")
        and night.inputs.get(f"previous/{name.removeprefix('snapshot/')}", digest) != digest
    ]
    if changed:
        raise DataError(f"{changed[0]} of the night before is not what that night read")
    both = [name for name in config.scenarios.names if name in old.scenarios.names]
    both = [name for name in both if name != "stress"]
    if not both:
        raise ConfigError("the two nights have no sampled scenario set in common")
    return explain(
        load_day(old),
        load_day(new),
        scenario_set=both[0],
        confidence=_CONFIDENCE,
        reported=_published(night, before, both[0]),
    )


def _published(night: Night, before: Run, scenario_set: str) -> tuple[float, float] | None:
    """Values at risk of both nights as their reports print them; None where one has not that level.

    Against these the residual shows what the explanation leaves out: moves of implied volatility,
    market impact, shared collateral, another version of the code.
    """
    total = xr.open_zarr(
        night.folder / "measures.zarr", group="total", consolidated=False, chunks=None
    )
    fact = f"value_at_risk.{scenario_set}.{_CONFIDENCE:g}.total.all"
    was = before.facts.filter(pc.equal(before.facts["fact_id"], fact))["value"].to_pylist()
    levels = total["confidence"].values
    if _CONFIDENCE not in levels or not was or was[0] is None:
        return None
    now = total["value_at_risk"].sel(scenario_set=scenario_set, confidence=_CONFIDENCE)
    return float(was[0]), float(now.values.item())
