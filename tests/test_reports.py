"""The reports print facts and nothing else, whatever the inputs hold."""

import dataclasses
import json
import math
import re
import unicodedata
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from risk.errors import ConfigError, RunError
from risk.reports import Limit, collect_facts, load_limits, render_capital, render_officer
from risk.reports.headlines import headlines, limit_states, overall_state
from risk.reports.view import Facts, format_number, money_decimals, slug
from risk.schema import FACTS
from tests.report_fixture import ROOT, make_inputs

#: Where a digit may stand without being a fact: identifiers, dates, and text from the inputs.
EXEMPT = {"code", "time", "bdi", "style", "script", "title", "svg"}
VOID = {"meta", "br", "input", "link"}


class Page(HTMLParser):
    """Numbers with their facts, and the text that is neither a fact nor exempt."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.stack, self.facts, self.prose, self.tags = [], [], [], []
        self.unmatched = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in VOID:
            return
        self.stack.append((tag, dict(attrs)))
        if tag == "data":
            self.facts.append([dict(attrs)["data-fact"], dict(attrs)["value"], ""])

    def handle_endtag(self, tag):
        if self.stack and self.stack[-1][0] == tag:
            self.stack.pop()
        else:
            self.unmatched += 1

    def handle_data(self, data):
        tags = {tag for tag, _ in self.stack}
        if "data" in tags:
            self.facts[-1][2] += data
        elif not tags & EXEMPT:
            self.prose.append(data)


@pytest.fixture(scope="module")
def inputs():
    return make_inputs()


@pytest.fixture(scope="module")
def table(inputs):
    return collect_facts(inputs)


@pytest.fixture(scope="module")
def report(table, inputs):
    return render_officer(table, inputs)


@pytest.fixture(scope="module")
def capital(table, inputs):
    return render_capital(table, inputs)


def values(table):
    return dict(zip(table["fact_id"].to_pylist(), table.to_pylist(), strict=True))


def parsed(text):
    return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-").replace("+", ""))


def money_scale(html):
    return {"USD m": 1e6, "USD k": 1e3, "USD": 1.0}[re.search(r"<dd>(USD ?[mk]?);", html)[1]]


def assert_every_number_is_a_fact(html, table):
    page, rows = Page(html), values(table)
    assert len(page.facts) > 20
    for fact_id, value, text in page.facts:
        row = rows[fact_id]
        if row["value"] is None:
            assert value == ""
            assert text in {"none", "n/a", "—"} or re.fullmatch(r"n/a \(.+\)", text)
            continue
        assert float(value) == row["value"]
        scale = money_scale(html) if row["unit"] == "USD" else 1.0
        shown = parsed(text) * scale
        assert abs(shown - row["value"]) <= 0.5 * 10.0 ** -row["decimals"] * (1 + 1e-9), fact_id
    digits = [text for text in page.prose if any(char.isdigit() for char in text)]
    assert digits == []


def test_facts_have_the_schema_and_unique_ids(table):
    assert table.schema == FACTS
    ids = table["fact_id"].to_pylist()
    assert len(ids) == len(set(ids)) > 1000
    assert all(v is None or math.isfinite(v) for v in table["value"].to_pylist())


def test_a_fact_id_reads_from_the_measure_to_its_scope(table, inputs):
    row = values(table)["value_at_risk.monte_carlo.0.99.total.all"]
    node = inputs.measures["total"]["value_at_risk"]
    assert row["value"] == node.sel(scenario_set="monte_carlo", confidence=0.99).item()
    assert (row["unit"], row["decimals"]) == ("USD", -4)


def test_every_number_in_the_report_is_a_fact_at_its_decimals(report, table):
    assert_every_number_is_a_fact(report, table)


def test_every_number_in_the_capital_summary_is_a_fact_at_its_decimals(capital, table):
    assert_every_number_is_a_fact(capital[0], table)


def test_a_number_typed_into_the_page_is_caught(report, table):
    typed = report.replace("In one minute</h2>", "In 1 minute</h2>")
    with pytest.raises(AssertionError):
        assert_every_number_is_a_fact(typed, table)


def test_a_number_changed_in_the_page_is_caught(report, table):
    fact = re.search(r'data-fact="stress.worst_loss">([^<]+)<', report)
    changed = report.replace(fact[0], fact[0].replace(fact[1], "9,999.99"))
    with pytest.raises(AssertionError):
        assert_every_number_is_a_fact(changed, table)


def test_every_number_drawn_in_a_chart_is_a_fact_an_axis_or_input_text(report, table):
    rows, scale = values(table), money_scale(report)
    charts = re.findall(r"<svg.*?</svg>", report, re.DOTALL)
    assert len(charts) == 6
    n_facts = 0
    for chart in charts:
        root = ElementTree.fromstring(chart)
        parents = {child: parent for parent in root.iter() for child in parent}
        for node in root.iter():
            text = "".join(node.itertext()) if node.tag.endswith("}text") else ""
            if not any(char.isdigit() for char in text):
                continue
            above, chain = node, []
            while above in parents:
                above = parents[above]
                chain.append(above)
            fact = next((g.get("data-fact") for g in chain if g.get("data-fact")), None)
            is_axis = any(re.search(r"-[xy]tick_\d+$", g.get("id", "")) for g in chain)
            is_label = any(g.get("data-label") is not None for g in chain)
            if fact is None:
                assert is_axis or is_label, text
                continue
            n_facts += 1
            row = rows[fact]
            shown = parsed(re.sub(r"[\s%]+$", "", text)) * (scale if row["unit"] == "USD" else 1)
            assert abs(shown - row["value"]) <= 0.5 * 10.0 ** -row["decimals"] * (1 + 1e-9)
    assert n_facts > 20


def test_the_same_inputs_give_the_same_bytes(report, capital):
    again = make_inputs()
    facts = collect_facts(again)
    assert render_officer(facts, again) == report
    assert render_capital(facts, again) == capital


def test_ids_in_the_page_are_unique_and_references_resolve(report):
    ids = re.findall(r'\bid="([^"]+)"', report)
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'href="#([^"]+)"', report))
    wanted |= set(re.findall(r"url\(#([^)]+)\)", report))
    wanted |= {
        name for group in re.findall(r'aria-labelledby="([^"]+)"', report) for name in group.split()
    }
    assert wanted <= set(ids)


def test_the_page_asks_for_nothing_outside_itself(report, capital):
    for html in (report, capital[0]):
        page = Page(html)
        assert page.unmatched == 0
        for tag, attrs in page.tags:
            assert tag not in {"link", "img", "iframe", "object", "form", "base"}
            for name in ("src", "href", "xlink:href"):
                assert attrs.get(name, "#").startswith("#")
        assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html
        assert "url(" not in re.sub(r"url\(#[^)]*\)", "", html)


def test_only_the_digested_script_may_run(report):
    import base64
    import hashlib

    script = re.search(r"<script>(.*?)</script>", report, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in report
    assert not re.search(r"<[^>]+\son\w+=", re.sub(r"<script>.*?</script>", "", report, flags=re.S))


def test_the_report_is_small_and_no_table_is_longer_than_two_hundred_rows(report):
    assert len(report.encode()) < 3e6
    for body in re.findall(r"<tbody>(.*?)</tbody>", report, re.DOTALL):
        assert body.count("<tr") <= 200


def test_no_printed_number_is_minus_zero_or_uses_a_hyphen(report):
    for _, _, text in Page(report).facts:
        assert not re.fullmatch("[-\N{MINUS SIGN}][0.,]+", text)
        assert not re.match(r"-\d", text)


def test_a_stress_row_balances(table, inputs):
    rows = values(table)
    for name in inputs.stresses["label"].values:
        fact = {
            v: rows[f"stress.{v}.{slug(name)}"]["value"]
            for v in ("pnl", "venue_gain", "deficit", "market_cost", "price_move", "venue_net")
        }
        assert fact["venue_net"] == fact["venue_gain"] - fact["deficit"]
        total = fact["pnl"] + fact["venue_gain"] - fact["deficit"] + fact["market_cost"]
        assert fact["price_move"] == pytest.approx(total, rel=1e-12)


def test_contributions_shown_add_up_to_the_expected_shortfall(table):
    rows = values(table)
    shortfall = rows["expected_shortfall.monte_carlo.0.975.total.all"]["value"]
    for level in ("asset", "venue", "side"):
        parts = [
            r["value"] for k, r in rows.items() if re.fullmatch(rf"contribution\.{level}\.[^.]+", k)
        ]
        others = rows[f"contributions.{level}.others"]["value"]
        assert math.fsum([*parts, others]) == pytest.approx(shortfall, rel=1e-9)
        assert rows[f"contributions.{level}.total"]["value"] == pytest.approx(shortfall, rel=1e-9)


def test_the_capital_json_holds_the_same_facts(capital, table):
    document = json.loads(capital[1])
    rows = values(table)
    entries = [*document["lines"]]
    for stress in document["stresses"]:
        entries += [value for value in stress.values() if isinstance(value, dict)]
    for status in document["coverage"].values():
        entries += status.values()
    assert len(entries) > 40
    for entry in entries:
        assert entry["value"] == rows[entry["fact_id"]]["value"]


def test_the_capital_summary_names_no_account(capital, inputs):
    for account in inputs.accounts["account"].to_pylist():
        assert account not in capital[0]
        assert account not in capital[1]


def test_an_unverified_value_is_printed_as_such(capital):
    assert capital[0].count("Unverified") == 2


def test_the_cut_off_of_a_day_is_midnight_of_the_next(report):
    assert 'Close of <time datetime="2025-06-29">' in report
    assert "2025-06-30T00:00:00Z" in report


def test_a_synthetic_run_says_so_and_a_real_one_does_not(inputs, table, report):
    real = dataclasses.replace(inputs, run=dataclasses.replace(inputs.run, is_synthetic=False))
    assert "SYNTHETIC: " in report
    assert "SYNTHETIC" not in render_officer(collect_facts(real), real)


def test_coverage_below_its_floor_is_a_red_banner_and_the_first_headline(inputs, report):
    partial = dataclasses.replace(inputs, coverage_floor=0.999, limits=())
    facts = collect_facts(partial)
    html = render_officer(facts, partial)
    assert 'class="banner floor"' in html
    assert 'class="banner floor"' not in report
    first = headlines(Facts(facts), partial)[0]
    assert first.state == "breach"
    assert "partial" in first.text
    assert overall_state(Facts(facts), partial) == "breach"


def test_headlines_put_breaches_before_warnings_before_notes(inputs, table):
    order = ["breach", "warning", "within", "note"]
    states = [order.index(sentence.state) for sentence in headlines(Facts(table), inputs)]
    assert states == sorted(states)


HOSTILE = [
    "<script>alert(1)</script>",
    "\u202eLTR\u202c",
    "x" * 200,
    "a&b\"c'd{{ 7*7 }}",
    "$\\frac{1}{2}$",
    "\u0645\u0631\u062d\u0628\u0627",
    "\x00\x1b[31m",
    "\u4ea4\u6613\u6240",
    "=HYPERLINK(0)",
]


def test_hostile_names_are_shown_and_do_nothing(inputs):
    names = HOSTILE * 3
    accounts = inputs.accounts.set_column(
        0, "account", pa.array([names[k] for k in range(inputs.accounts.num_rows)])
    )
    n = inputs.stresses.sizes["scenario"]
    stresses = inputs.stresses.assign_coords(
        label=("scenario", HOSTILE[:n]), source=("scenario", HOSTILE[-n:])
    )
    assets = [*HOSTILE, *inputs.curves["asset"].values[len(HOSTILE) :]]
    hostile = dataclasses.replace(
        inputs,
        accounts=accounts,
        stresses=stresses,
        curves=inputs.curves.assign_coords(asset=assets),
        reasons=inputs.reasons.set_column(1, "reason", pa.array(HOSTILE[:5])),
        run=dataclasses.replace(
            inputs.run, run_id='"}</style><script>1</script>', notes=tuple(HOSTILE)
        ),
    )
    facts = collect_facts(hostile)
    html = render_officer(facts, hostile)
    assert html.count("<script") == 1
    assert html.count("</style>") == html.count("<style")
    assert "{{ 7*7 }}" in html
    assert "\u202e" not in html
    assert not any(unicodedata.category(c) == "Cc" and c != "\n" for c in html)
    assert_every_number_is_a_fact(html, facts)
    for chart in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(chart)
    page, document = render_capital(facts, hostile)
    assert page.count("<script") == 0
    json.loads(document)


def test_two_labels_never_share_a_fact_id():
    assert slug("a b") != slug("a-b")
    assert slug("x" * 64) != slug("x" * 65) != slug("x" * 66)


def test_a_run_with_nothing_but_a_monte_carlo_total_still_renders(inputs):
    none = {
        "stresses": inputs.stresses.isel(scenario=slice(0, 0)),
        "curves": inputs.curves.isel(asset=slice(0, 0)),
        "contributors": inputs.contributors.slice(0, 0),
        "accounts": inputs.accounts.slice(0, 0),
        "reasons": inputs.reasons.slice(0, 0),
        "funds": inputs.funds.slice(0, 0),
        "totals": {},
        "limits": (),
        "quality": (),
        "adequacy": None,
        "gap_sensitivity": None,
        "parameters": {},
    }
    total = inputs.measures["total"].to_dataset().sel(scenario_set=["monte_carlo"])
    bare = dataclasses.replace(inputs, measures=xr.DataTree.from_dict({"/total": total}), **none)
    facts = collect_facts(bare)
    html = render_officer(facts, bare)
    assert "n/a (" in html
    assert_every_number_is_a_fact(html, facts)
    assert "no capital lines" in render_capital(facts, bare)[0]


def test_an_interval_end_the_sample_is_too_small_for_prints_none(inputs, report):
    total = inputs.measures["total"].to_dataset().copy(deep=True)
    total["value_at_risk_high"][:] = np.nan
    tree = {f"/{k}": v.to_dataset() for k, v in inputs.measures.children.items()} | {
        "/total": total
    }
    short = dataclasses.replace(inputs, measures=xr.DataTree.from_dict(tree))
    html = render_officer(collect_facts(short), short)
    fact = 'data-fact="value_at_risk_high.monte_carlo.0.99.total.all">none</data>'
    assert fact in html
    assert fact not in report


def test_a_missing_variable_and_an_infinite_value_print_as_missing(inputs):
    tree = {f"/{k}": v.to_dataset() for k, v in inputs.measures.children.items()}
    tree["/asset"] = tree["/asset"].drop_vars("deficit_expected_shortfall")
    tree["/venue"]["pnl_mean"] = tree["/venue"]["pnl_mean"] * np.inf
    holed = dataclasses.replace(inputs, measures=xr.DataTree.from_dict(tree))
    facts = collect_facts(holed)
    rows = values(facts)
    assert rows["deficit_expected_shortfall.monte_carlo.0.99.asset.BTC"]["value"] is None
    assert rows["pnl_mean.monte_carlo.venue.okx"]["value"] is None
    assert_every_number_is_a_fact(render_officer(facts, holed), facts)


def test_a_deficit_at_a_venue_without_a_fund_breaches_the_fund_limit(inputs):
    funds = inputs.funds.filter(pa.compute.not_equal(inputs.funds["venue"], "okx"))
    poor = dataclasses.replace(inputs, funds=funds)
    facts = collect_facts(poor)
    assert values(facts)["stress.worst_fund_use"]["value"] is None
    crossed = {item.limit.name: item for item in limit_states(Facts(facts), poor)}
    mine = crossed["Stress deficit against the fund"]
    assert (mine.state, mine.value, mine.group) == ("breach", math.inf, "okx")
    assert overall_state(Facts(facts), poor) == "breach"
    assert "unbounded" in render_officer(facts, poor)


def test_a_fund_in_a_coin_without_a_price_is_not_printed_as_zero(inputs):
    funds = inputs.funds.set_column(2, "balance_usd", pa.array([18e6, 5.2e6, None]))
    unknown = dataclasses.replace(inputs, funds=funds)
    facts = collect_facts(unknown)
    assert values(facts)["fund.balance.okx"]["value"] is None
    assert "n/a (no price)" in render_officer(facts, unknown)


def test_a_book_too_small_for_millions_is_printed_in_thousands_or_dollars(inputs):
    margin = dataclasses.replace(inputs.margin, long_notional_usd=2e5, short_notional_usd=1e4)
    small = dataclasses.replace(inputs, margin=margin)
    facts = collect_facts(small)
    html = render_officer(facts, small)
    assert "USD k;" in html
    assert_every_number_is_a_fact(html, facts)


def test_holders_who_gain_in_every_stress_are_not_said_to_lose(inputs):
    gain = inputs.stresses.assign(pnl=abs(inputs.stresses["pnl"]))
    lucky = dataclasses.replace(inputs, stresses=gain)
    facts = collect_facts(lucky)
    html = render_officer(facts, lucky)
    assert "longs and shorts offset" in html
    assert "The holders as a whole gain in every stress" in html


def test_a_fact_twice_in_the_table_is_refused(table, inputs):
    with pytest.raises(RunError, match="occurs twice"):
        render_officer(pa.concat_tables([table, table.slice(0, 1)]), inputs)


def test_a_fact_nobody_collected_is_refused(table, inputs):
    lacking = table.filter(pa.compute.not_equal(table["fact_id"], "stress.worst_loss"))
    with pytest.raises(RunError, match=r"stress\.worst_loss"):
        render_officer(lacking, inputs)


@given(st.floats(-1e15, 1e15), st.integers(0, 4))
def test_a_printed_number_reads_back_within_half_a_unit(value, decimals):
    text = format_number(value, decimals)
    assert abs(parsed(text) - value) <= 0.5 * 10.0**-decimals + abs(value) * 1e-15
    assert not re.fullmatch("\N{MINUS SIGN}[0.,]+", text)
    assert "-" not in text


@given(st.floats(0.0, 1e14))
def test_money_is_printed_so_that_the_book_itself_is_not_zero(gross):
    scale = {-4: 1e6, -1: 1e3, 2: 1.0}[money_decimals(gross)]
    assert gross < 0.01 or format_number(gross / scale, 2) != "0.00"


def test_limits_cross_on_either_side():
    low = Limit(name="n", measure="m", scope="s", side="below", warning=5, breach=3, owner="o")
    assert [low.state(v) for v in (6.0, 5.0, 3.0, None)] == [
        "within",
        "warning",
        "breach",
        "not evaluated",
    ]


def test_the_shipped_limits_name_facts_that_a_run_produces(table, inputs):
    facts = dict(zip(table["fact_id"].to_pylist(), table["value"].to_pylist(), strict=True))
    # The made-up night is not rolled up by book and has no deficit at 99.9 %; a real one has both.
    lacking = [limit for limit in inputs.limits if not limit.watched(facts)]
    assert all(limit.level == "book" or limit.measure == "fund_use" for limit in lacking)
    assert {name for limit in inputs.limits for name in limit.watched(facts)} <= set(facts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits: [{name: a}]", "0|measure|limit"),
        ("limits: 3", "limits.yaml"),
        ("other: []", "expected one key"),
        ("limits: [{name: a, measure: m, scope: s, warning: 2, breach: 1, owner: o}]", "warning"),
        (
            "limits: [{name: a, measure: m, scope: s, warning: 1, breach: 2, owner: o},"
            " {name: a, measure: m, scope: s, warning: 1, breach: 2, owner: o}]",
            "given twice",
        ),
    ],
)
def test_a_broken_limits_file_is_one_clear_sentence(tmp_path, text, message):
    path = tmp_path / "limits.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_limits(path)


def test_the_palette_is_readable_on_its_background():
    """WCAG 2.1: text needs a contrast of 4.5 to 1."""

    def luminance(colour):
        channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    css = (ROOT / "risk" / "reports" / "templates" / "style.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", css))
    pairs = [(name, "soft") for name in ("ink", "muted", "breach", "warning", "within", "link")]
    pairs += [("holder", "holder-soft"), ("venue", "venue-soft")]
    pairs += [("breach", "breach-soft"), ("warning", "warning-soft")]
    for text, ground in pairs:
        light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
