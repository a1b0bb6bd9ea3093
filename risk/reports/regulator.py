"""The capital summary: one page and its JSON, from the same facts as the officer's report."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from risk.reports import choose, headlines
from risk.reports.inputs import ReportInputs
from risk.reports.officer import render
from risk.reports.view import Facts, printable, slug

STATUS = (
    "Informational. A venue is not a bank: nothing here is a filing under the Basel framework, and "
    "internal models may not be used for the capital of group two cryptoassets."
)


def render_capital(facts: pa.Table, inputs: ReportInputs) -> tuple[str, str]:
    """Render ``capital.html`` and ``capital.json``; neither names an account.

    Parameters
    ----------
    facts : Table
        From ``collect_facts`` on the same inputs.
    inputs : ReportInputs
        Results of one run; `adequacy` gives the lines.

    Returns
    -------
    tuple of str
        HTML and JSON, the same for the same arguments.
    """
    view = Facts(facts)
    lines = [] if inputs.adequacy is None else inputs.adequacy.to_pylist()
    state = headlines.overall_state(view, inputs)
    page = render("capital.html.j2", view, inputs, lines=lines, state_of_run=state, status=STATUS)
    return page, _document(view, inputs, lines, state)


def _document(view: Facts, inputs: ReportInputs, lines: list[dict[str, Any]], state: str) -> str:
    def fact(fact_id: str) -> dict[str, Any]:
        row = view.row(fact_id)
        return {
            "fact_id": fact_id,
            "value": row.value,
            "unit": row.unit,
            "decimals": row.decimals,
        }

    coverage = [row["status"] for row in inputs.coverage.to_pylist()]
    stresses = [str(name) for name in inputs.stresses["label"].values]
    run = inputs.run
    document = {
        "document": "capital adequacy summary",
        "status": STATUS,
        "state": state,
        "entity": inputs.entity,
        "as_of": inputs.as_of.isoformat(),
        "is_synthetic": run.is_synthetic,
        "run": {
            "run_id": run.run_id,
            "config_digest": run.config_digest,
            "code_version": run.code_version,
            "seed": run.seed,
        },
        "lines": [
            {
                "row": line["row"],
                "line": line["line"],
                "title": line["title"],
                **fact(f"capital.{line['line']}"),
                "basis": printable(line["basis"], 400),
                "is_verified": line["is_verified"],
            }
            for line in lines
        ],
        "sections": [
            {
                "section": rows[0]["section"],
                "title": printable(rows[0]["section_title"], 400),
                "status": rows[0]["status"],
                "where": printable(rows[0]["where"], 400),
                "is_informational": rows[0]["is_informational"],
                "note": printable(rows[0]["section_note"], 1000),
                "lines": [
                    {
                        "row": row["row"],
                        "line": row["line"],
                        "title": printable(row["title"], 400),
                        **fact(choose.capital_id(row)),
                        "basis": printable(row["basis"], 400),
                        "is_verified": row["is_verified"],
                        "note": row["note"] and printable(row["note"], 400),
                    }
                    for row in rows
                ],
            }
            for rows in choose.capital_sections(inputs)
        ],
        "stresses": [
            {
                "label": printable(name, 400),
                **{
                    variable: fact(f"stress.{variable}.{slug(name)}")
                    for variable in ("deficit", "uncovered", "venue_gain", "liquidated_notional")
                },
            }
            for name in stresses
        ],
        "coverage": {
            status: {
                name: fact(f"coverage.{name}.{status}")
                for name in ("n_positions", "share", "notional_share")
            }
            for status in coverage
        },
        "inputs": [
            {"name": file.name, "sha256": file.sha256, "rows": file.n_rows} for file in run.files
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
