"""What a backtest says, in words for managers, and forecasts as fan charts."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
SMALL_BIAS = 0.02  # share of volume below which a forecast is called neither too high nor too low
INK, BAND = "#0f766e", "#99d5cf"
SENTENCES = {
    "en": {
        "inside": "In the last {months} months, {inside} of {months} fell inside the band that should hold 8 in 10.",
        "high": "The forecasts were {share:.0%} too high on the whole.",
        "low": "The forecasts were {share:.0%} too low on the whole.",
        "even": "The forecasts were neither too high nor too low on the whole.",
        "better": "Their error was {share:.0%} smaller than that of repeating last year's month.",
        "worse": "Their error was {share:.0%} larger than that of repeating last year's month.",
        "none": "There is no past month yet to compare a forecast with.",
    },
    "zh": {
        "inside": "最近 {months} 个月中，有 {inside} 个月落在预测区间内（按设计约为十分之八）。",
        "high": "总体上预测偏高 {share:.0%}。",
        "low": "总体上预测偏低 {share:.0%}。",
        "even": "总体上预测既不偏高也不偏低。",
        "better": "误差比沿用去年同月小 {share:.0%}。",
        "worse": "误差比沿用去年同月大 {share:.0%}。",
        "none": "还没有可供对照的历史月份。",
    },
}


def in_words(backtest: pd.DataFrame, series: str, language: Language = "en", method: str = "revisit") -> str:
    """Say how one series' forecasts of the newest backtest origin did.

    Parameters
    ----------
    backtest : pandas.DataFrame
        From `training.demand.backtest.backtest`, of one measure; ``seasonal_naive`` may be among the methods.
    series : str
        Which series.
    language : {"en", "zh"}
    method : str
        Whose forecasts.
    """
    said = SENTENCES[language]
    known = backtest[(backtest["series"] == series) & backtest["actual"].notna() & backtest["q50"].notna()]
    own = known[known["method"] == method]
    own = own[own["origin"] == own["origin"].max()]
    if own.empty:
        return said["none"]
    inside = int(((own["actual"] >= own["q10"]) & (own["actual"] <= own["q90"])).sum())
    parts = [said["inside"].format(inside=inside, months=len(own))]
    volume = own["actual"].sum()
    if volume > 0:
        bias = float((own["q50"] - own["actual"]).sum() / volume)
        parts.append(said["even" if abs(bias) < SMALL_BIAS else "high" if bias > 0 else "low"].format(share=abs(bias)))
    naive = known[(known["method"] == "seasonal_naive") & (known["origin"] == own["origin"].max())]
    error, naive_error = ((t["q50"] - t["actual"]).abs().sum() for t in (own, naive))
    if naive_error > 0:
        ratio = float(error / naive_error)
        parts.append(said["better" if ratio <= 1 else "worse"].format(share=abs(1 - ratio)))
    return ("" if language == "zh" else " ").join(parts)


def fan_chart(title: str, actual: pd.Series, ahead: pd.DataFrame) -> Figure:
    """Draw a series and what is expected of it.

    Parameters
    ----------
    title : str
        Above the chart.
    actual : pandas.Series
        What came, indexed by monthly periods.
    ahead : pandas.DataFrame
        One row per month: month, q10 ... q90.

    Returns
    -------
    matplotlib.figure.Figure
        Bands of 80, 60, 40 and 20 %.
    """
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots(gridspec_kw={"left": 0.08, "right": 0.98, "top": 0.9, "bottom": 0.1})
    past = actual.sort_index()
    axes.plot(pd.PeriodIndex(past.index).to_timestamp(), past.to_numpy(dtype=float), color=INK, linewidth=1.5)
    months = pd.PeriodIndex(ahead["month"]).to_timestamp()
    for low, high in ((10, 90), (20, 80), (30, 70), (40, 60)):
        lower, upper = (ahead[f"q{level}"].to_numpy(dtype=float) for level in (low, high))
        axes.fill_between(months, lower, upper, color=BAND, alpha=0.45, linewidth=0)
    axes.plot(months, ahead["q50"].to_numpy(dtype=float), color=INK, linewidth=1.5, linestyle="--")
    top = np.nanmax([past.max() if len(past) else 0, ahead["q90"].max(), 1])
    axes.set(title=title, ylim=(0, 1.05 * top))
    axes.spines[["top", "right"]].set_visible(False)
    return figure
