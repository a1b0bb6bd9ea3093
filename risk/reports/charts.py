"""The report's charts: matplotlib SVG, the same bytes for the same inputs.

Titles and numbers live in the page beside a chart; a number inside one is drawn from a fact and
carries its id (``data-fact``), text from the inputs carries ``data-label``.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from risk.reports import choose
from risk.reports.inputs import ReportInputs
from risk.reports.view import MONEY_SCALES, Facts, format_number, printable, slug

INK, MUTED, GRID = "#17212e", "#5a6675", "#e2e7ed"
HOLDER, HOLDER_SOFT = "#24577f", "#a9bccd"
VENUE, BREACH = "#b4530a", "#a3180f"
LINES = (
    ("#1b5e98", "-"),
    ("#b4530a", (0, (6, 2))),
    ("#1d7a4f", (0, (6, 2, 1, 2))),
    ("#7b3f98", (0, (1, 1.5))),
    ("#8a6d00", (0, (8, 2, 2, 2, 2, 2))),
    ("#3c4858", (0, (3, 2))),
)

_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "hatch.linewidth": 0.6,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


class Canvas:
    """One figure on its way to inline SVG; `name` keeps its ids apart from other charts'."""

    def __init__(self, name: str, facts: Facts) -> None:
        self.name = name
        self.facts = facts
        self._n = 0

    def fact(
        self,
        ax: Axes,
        x: float,
        y: float,
        fact_id: str,
        *,
        pad: float = 0.0,
        sign: bool = False,
        **style: Any,
    ) -> None:
        """Write a fact's number into the chart, `pad` points to the right of (x, y)."""
        self._n += 1
        gid = f"fact:{self._n}:{fact_id}"
        text = self.facts.labelled(fact_id, sign=sign)
        across = style.pop("transform", ax.transData)
        moved = across + ScaledTranslation(pad / 72, 0, ax.figure.dpi_scale_trans)
        ax.text(x, y, text, gid=gid, transform=moved, **style)

    def label(self, ax: Axes, x: float, y: float, text: object, **style: Any) -> None:
        """Write text from the inputs into the chart."""
        self._n += 1
        ax.text(x, y, printable(text, 28), gid=f"label:{self._n}:", **style)

    def svg(self, figure: Figure) -> Markup:
        """Inline SVG, named by the caption and described by the text beside it."""
        buffer = io.StringIO()
        salt = mpl.rc_context({"svg.hashsalt": self.name})
        with salt, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
        text = re.sub(r'id="fact:\d+:([^"]*)"', r'data-fact="\1"', text)
        text = re.sub(r'id="label:\d+:"', 'data-label=""', text)
        text = re.sub(r'\bid="([^"]+)"', rf'id="{self.name}-\1"', text)
        text = re.sub(r'href="#([^"]+)"', rf'href="#{self.name}-\1"', text)
        text = text.replace("url(#", f"url(#{self.name}-")
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        opening = f'<svg role="img" aria-labelledby="{self.name}-title {self.name}-text"'
        return Markup(text.replace("<svg", opening, 1).rstrip())


def style() -> Any:
    """The charts' settings, for a ``with`` block."""
    return mpl.rc_context(_STYLE)


def figure(width: float, height: float) -> Figure:
    """A figure whose width in inches is a ninetieth of its pixels on the page."""
    return Figure(figsize=(width, height), layout="constrained")


def money(facts: Facts) -> tuple[float, str]:
    """Scale and unit the page prints money in."""
    return next(pair for pair in MONEY_SCALES.values() if pair[1] == facts.money_unit)


def tick_format(value: float, _position: object = None) -> str:
    """Axis numbers with a true minus and as few decimals as they need."""
    decimals = 0 if float(value).is_integer() else (1 if abs(value) >= 1 else 2)
    return format_number(value, decimals)


def distribution(facts: Facts, inputs: ReportInputs) -> Markup:
    """Holders' losses per scenario set, log count, tail coloured, VaR and ES with intervals."""
    sets = [name for name in choose.scenario_sets(inputs) if name in inputs.totals]
    top = choose.headline(inputs)
    group = choose.group_names(inputs, "total")[0]
    scale, unit = money(facts)
    canvas = Canvas("distribution", facts)
    with style():
        fig = figure(12.4, 1.0 + 2.1 * max(len(sets), 1))
        rows = fig.subplots(max(len(sets), 1), 1, sharex=True, squeeze=False)[:, 0]
        for ax, name in zip(rows, sets, strict=False):
            losses = -np.asarray(inputs.totals[name].values, float) / scale
            losses = losses[np.isfinite(losses)]
            var = _measure(facts, "value_at_risk", name, group, top.value_at_risk, scale)
            _histogram(ax, losses, var)
            _tail_lines(ax, canvas, name, group, top, scale)
            title = choose.words(name, choose.SET_WORDS)
            ax.text(0.008, 0.98, title, transform=ax.transAxes, weight="bold", va="top")
            ax.set_ylabel("scenarios (log)")
        rows[-1].set_xlabel(f"loss of all holders over the horizon, {unit} (gains are negative)")
        return canvas.svg(fig)


def _tail_lines(
    ax: Axes, canvas: Canvas, name: str, group: str, top: choose.Headline, scale: float
) -> None:
    facts = canvas.facts
    lines = []
    for variable, word, confidence, colour, dash in (
        ("value_at_risk", "VaR", top.value_at_risk, INK, "-"),
        ("expected_shortfall", "ES", top.expected_shortfall, BREACH, (0, (5, 2))),
    ):
        fact_id = choose.measure_id(variable, name, "total", group, confidence)
        value = facts.value(fact_id)
        if value is not None:
            lines.append((value / scale, variable, word, confidence, fact_id, colour, dash))
    across = ax.get_xaxis_transform()
    for place, (x, variable, word, confidence, fact_id, colour, dash) in enumerate(sorted(lines)):
        low, high = (
            _measure(facts, f"{variable}_{end}", name, group, confidence, scale)
            for end in ("low", "high")
        )
        if low is not None and high is not None:
            ax.axvspan(low, high, color=colour, alpha=0.14, lw=0)
        ax.axvline(x, color=colour, lw=1.3, ls=dash)
        # The two often stand side by side: the smaller is written to the left of its line.
        side, pad = ("right", -5) if place == 0 and len(lines) > 1 else ("left", 5)
        at: dict[str, Any] = {"ha": side, "va": "top", "color": colour, "weight": "bold"}
        shifted = across + ScaledTranslation(pad / 72, 0, ax.figure.dpi_scale_trans)
        ax.text(x, 0.98, word, transform=shifted, **at)
        canvas.fact(ax, x, 0.86, fact_id, transform=across, pad=pad, **at)


def _histogram(ax: Axes, losses: np.ndarray, var: float | None) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(tick_format))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(tick_format))
    ax.grid(axis="y", color=GRID, lw=0.6)
    ax.set_axisbelow(True)
    if not losses.size:
        return
    spread = float(losses.max() - losses.min()) or 1.0
    width = spread / 90
    # An edge on the VaR, so that the coloured tail is exactly what lies beyond it.
    anchor = losses.min() if var is None else var
    first = int(np.floor((losses.min() - anchor) / width - 1e-9))
    last = int(np.ceil((losses.max() - anchor) / width + 1e-9))
    edges = anchor + width * np.arange(first, last + 1)
    counts, _ = np.histogram(losses, edges)
    tail = edges[:-1] >= anchor - 1e-9 * width if var is not None else np.zeros(counts.size, bool)
    for mask, colour in ((~tail, HOLDER_SOFT), (tail, BREACH)):
        ax.bar(edges[:-1][mask], counts[mask], width=width * 0.92, align="edge", color=colour, lw=0)
    ax.set_ylim(0.6, counts.max() * 4.0)


def _measure(
    facts: Facts, variable: str, scenario_set: str, group: str, confidence: float, scale: float
) -> float | None:
    value = facts.value(choose.measure_id(variable, scenario_set, "total", group, confidence))
    return None if value is None else value / scale


def two_sides(facts: Facts, inputs: ReportInputs) -> Markup:
    """Each stress once: the holders' loss to the left, the venues' deficit to the right."""
    order = choose.side_order(inputs)
    scale, unit = money(facts)
    canvas = Canvas("sides", facts)
    keys = [slug(choose.stress_label(inputs, index)) for index in order]
    loss = _column(facts, "stress.pnl", keys, -scale)
    beyond = _column(facts, "stress.uncovered", keys, scale)
    deficit = _column(facts, "stress.deficit", keys, scale)
    with style():
        fig = figure(12.4, 1.1 + 0.36 * max(len(order), 2))
        left, right = fig.subplots(1, 2, sharey=True)
        y = np.arange(len(order))
        left.barh(y, loss, 0.62, color=[HOLDER if amount >= 0 else HOLDER_SOFT for amount in loss])
        right.barh(y, deficit - beyond, 0.62, color=VENUE)
        right.barh(y, beyond, 0.62, left=deficit - beyond, color=BREACH, hatch="////", ec="white")
        for row, key in enumerate(keys):
            at: dict[str, Any] = {"va": "center", "weight": "bold", "fontsize": 9}
            side, pad = ("right", -4) if loss[row] >= 0 else ("left", 4)
            at |= {"ha": side, "pad": pad, "color": HOLDER}
            canvas.fact(left, loss[row], row, f"stress.pnl.{key}", sign=True, **at)
            at |= {"ha": "left", "pad": 4, "color": VENUE}
            canvas.fact(right, deficit[row], row, f"stress.deficit.{key}", **at)
        names = [printable(choose.stress_label(inputs, index), 44) for index in order]
        left.set_yticks(y, names, color=INK, fontsize=9)
        reach = float(np.ptp([*loss, 0.0])) or 1.0
        least = float(min([*loss, 0.0]))
        left.set_xlim(max([*loss, 0.0]) + 0.16 * reach, least - 0.16 * reach if least < 0 else 0.0)
        left.axvline(0.0, color=MUTED, lw=0.8)
        right.set_xlim(0.0, 1.22 * max([*deficit, 0.0]) or 1.0)
        left.invert_yaxis()
        left.set_title("What the holders lose", loc="right", color=HOLDER, weight="bold")
        right.set_title("What lands on the venues", loc="left", color=VENUE, weight="bold")
        left.set_xlabel(f"loss, {unit} (label: P&L)")
        right.set_xlabel(f"deficit, {unit} (own scale)")
        for ax in (left, right):
            ax.xaxis.set_major_locator(MaxNLocator(6))
            ax.xaxis.set_major_formatter(FuncFormatter(tick_format))
            ax.grid(axis="x", color=GRID, lw=0.6)
            ax.set_axisbelow(True)
            ax.tick_params(axis="y", length=0)
        left.spines["left"].set_visible(False)
        left.spines["right"].set_visible(True)
        right.tick_params(labelleft=False)
        return canvas.svg(fig)


def _column(facts: Facts, prefix: str, keys: list[str], scale: float) -> np.ndarray:
    return np.array([(facts.value(f"{prefix}.{key}") or 0.0) / scale for key in keys])
