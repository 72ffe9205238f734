"""All forecasts made anew from records: what is kept, what came of it, and what the command says."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

from features.demand_series import read_demand
from features.errors import NotBuiltError
from features.forecasts import (
    ACTUALS,
    BACKTEST,
    CAPACITY,
    CONSUMABLES,
    SUPPLY_MONTHS,
    WORDS,
    load,
    past_forecasts,
    read_version,
    store_version,
    versions,
)
from features.settings import Paths, Settings
from training.demand.practice import forecast_practice
from training.demand.rebuild import Rebuilt, rebuild

EARLIER, NOW = datetime(2026, 7, 17, 1, 30, tzinfo=UTC), datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
LEVELS = {"practice", "clinic", "service_line", "clinic_line", "clinician"}


@pytest.fixture(scope="module")
def settings(small_practice: Any, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The small practice's records, with forecasts and models of its own."""
    data = tmp_path_factory.mktemp("forecasts")
    (data / "data").mkdir()
    (data / "data" / "records").symlink_to(small_practice.settings.paths.records)
    paths = Paths(data=data / "data", mlruns=data / "mlruns")
    found: Settings = small_practice.settings.model_copy(update={"paths": paths})
    return found


@pytest.fixture(scope="module")
def made(settings: Settings) -> Rebuilt:
    """Everything of November, after a forecast of visits alone in July."""
    with pytest.raises(NotBuiltError, match="revisit forecast"):
        load(settings, ACTUALS)
    assert versions(settings) == []
    earlier = forecast_practice(read_demand(settings, EARLIER, 6), "visits", None, 6, ("structural",))
    store_version(settings, EARLIER, earlier.frame().assign(is_provisional=False))
    return rebuild(settings, NOW, horizon=6, members=("structural",), peers=("seasonal_naive",))


def test_every_level_and_measure_is_kept(settings: Settings, made: Rebuilt) -> None:
    table = read_version(settings)
    assert set(table["measure"]) == {"visits", "chair_hours", "revenue", "new_patients"} == set(made.measures)
    assert set(table["level"]) == LEVELS
    assert len(table) == 6 * made.series
    assert table["month"].min() == pd.Period("2026-11")
    assert table["actual"].isna().all()
    assert set(table.loc[table["is_provisional"], "month"]) == set(made.provisional)
    quantiles = table.filter(regex=r"^q\d+$")
    assert quantiles.shape[1] == 9
    assert (quantiles >= 0).all(axis=None)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    mean = table[table["measure"] == "visits"].groupby(["level", "month"])["mean"].sum()
    for level in LEVELS - {"practice"}:
        np.testing.assert_allclose(mean[level], mean["practice"], rtol=1e-9)


def test_an_earlier_forecast_stands_beside_what_came(settings: Settings, made: Rebuilt) -> None:
    assert versions(settings) == ["20260717T013000Z", "20261117T013000Z"]
    told = past_forecasts(settings, "visits", "practice")
    assert list(told["made_at"].unique()) == [pd.Timestamp(EARLIER), pd.Timestamp(NOW)]
    first = told[told["made_at"] == pd.Timestamp(EARLIER)].set_index("month")
    actuals = load(settings, ACTUALS)
    came = actuals[(actuals["measure"] == "visits") & (actuals["series"] == "practice")].set_index("month")["actual"]
    months = pd.period_range("2026-07", "2026-10", freq="M")
    pd.testing.assert_series_equal(first.loc[months, "actual"], came[months], check_names=False)
    assert first["actual"].isna().sum() == 2
    assert (first.loc[months, "actual"] > 0).all()


def test_the_backtest_is_in_mlflow_and_in_words(settings: Settings, made: Rebuilt) -> None:
    from training.registry import connect

    client = connect(settings)
    run = client.get_run(made.run_id)
    assert run.data.tags["made_at"] == NOW.isoformat()
    tested = load(settings, BACKTEST)
    assert set(tested["method"]) == {"revisit", "seasonal_naive"}
    ours = tested[(tested["measure"] == "visits") & (tested["method"] == "revisit") & (tested["level"] == "practice")]
    wape = (ours["q50"] - ours["actual"]).abs().sum() / ours["actual"].sum()
    assert run.data.metrics["visits.revisit.practice.wape"] == pytest.approx(wape)
    assert {item.path for item in client.list_artifacts(made.run_id)} == {"backtest.csv", "words.json"}
    words = load(settings, WORDS).set_index(["measure", "series", "language"])["text"]
    newest = ours[ours["origin"] == ours["origin"].max()]
    inside = ((newest["actual"] >= newest["q10"]) & (newest["actual"] <= newest["q90"])).sum()
    assert f"In the last 6 months, {inside} of 6 fell inside" in words["visits", "practice", "en"]
    assert f"最近 6 个月中，有 {inside} 个月" in words["visits", "practice", "zh"]
    assert made.words["visits"]["zh"] == words["visits", "practice", "zh"]


def test_chairs_and_shelves(settings: Settings, made: Rebuilt) -> None:
    capacity = load(settings, CAPACITY)
    assert capacity["overload"].between(0, 1).all()
    np.testing.assert_allclose(capacity["add_hours"] * 0.85, capacity["needed_q90"] - capacity["usable"])
    used, stock = load(settings, SUPPLY_MONTHS), load(settings, CONSUMABLES)
    assert set(stock["supply"]) == set(used["supply"])
    assert len(used) == 6 * len(stock)
    # November is more than half over at the count: only the rest of it draws on the stock.
    first = used[used["month"] == "2026-11"].set_index("supply")["mean"]
    left = stock.set_index("supply")["needed_month"] / first
    assert (left[first > 0] <= 1).all()
    assert set(stock["alert"]) <= {"order now", "order soon", ""}


def test_charts_are_drawn(settings: Settings, made: Rebuilt) -> None:
    plots = list((settings.paths.forecasts / "plots").glob("*.png"))
    assert {f"{measure}-practice.png" for measure in made.measures} <= {path.name for path in plots}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots)


def test_serving_reads_forecasts_without_training() -> None:
    import ast

    import features.forecasts

    tree = ast.parse(Path(features.forecasts.__file__).read_text())
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(str(name).startswith(("training", "serving")) for name in named)


def monthly(rows: dict[str, list[float]], start: str = "2022-01") -> str:
    lines = ["clinic,month,amount"]
    for name, values in rows.items():
        months = pd.period_range(start, periods=len(values), freq="M")
        lines += [f"{name},{month},{value}" for month, value in zip(months, values, strict=True)]
    return "\n".join(lines) + "\n"


OPTIONS = ("--id", "clinic", "--time", "month", "--value", "amount", "--member", "structural")


def test_bad_series_of_a_file_never_stop_the_rest(revisit: Callable[..., Result], tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    usual = {f"c{n}": rng.poisson(80, 40).astype(float).tolist() for n in range(5)}
    closed = rng.poisson(100, 40).astype(float)
    closed[20:23] = 0
    bad = {"zero": [0.0] * 40, "constant": [30.0] * 40, "one": [12.0], "refunds": [50.0, -20.0] * 20}
    table = monthly(usual | bad | {"closed": closed.tolist()}).splitlines()
    gaps = [line for line in monthly({"gaps": usual["c0"]}).splitlines()[1:] if not re.search(r"-(03|07),", line)]
    shuffled = rng.permutation([*table[1:], *gaps]).tolist()
    (tmp_path / "panel.csv").write_text("\n".join([table[0], *shuffled]))
    done = revisit("forecast", "series", "panel.csv", *OPTIONS, "--horizon", "3", "--out", "ahead.csv")
    assert done.exit_code == 0, done.output
    assert "refunds: 20 negative month(s)" in done.output
    assert "closed: 3 month(s) of zero taken as closed" in done.output
    ahead = pd.read_csv(tmp_path / "ahead.csv")
    middle = ahead[ahead["step"] == 1].set_index("series")["q50"]
    assert set(middle.index) == {*usual, *bad, "closed", "gaps"}
    assert middle["zero"] == 0
    assert middle["constant"] == pytest.approx(30, rel=0.1)
    assert middle["gaps"] == pytest.approx(80, rel=0.15)
    assert middle["closed"] == pytest.approx(100, rel=0.15)
    assert middle["refunds"] == pytest.approx(50, rel=0.1)
    assert ahead.filter(regex="^q").notna().all(axis=None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (monthly({"a": [1.0, 2.0]}) + "a,2022-01,5\n", "more than once"),
        ("clinic,month,amount\n" + "".join(f"a,{year}-01,5\n" for year in range(2015, 2022)), "12 months apart"),
        ("clinic,month,amount\na,2022-01,many\n", "should hold numbers"),
        ("clinic,month\na,2022-01\n", "Expected column"),
        ("", "not a CSV file"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_forecast_end_in_one_sentence(
    text: str, says: str, revisit: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "panel.csv").write_text(text)
    done = revisit("forecast", "series", "panel.csv", *OPTIONS)
    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output


def test_a_file_is_backtested_on_request(revisit: Callable[..., Result], tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    season = 1 + 0.4 * np.sin(np.arange(48) * np.pi / 6)
    rows = {f"c{n}": rng.poisson(60 * season).astype(float).tolist() for n in range(6)}
    (tmp_path / "panel.csv").write_text(monthly(rows))
    done = revisit(
        "forecast", "series", "panel.csv", *OPTIONS, "--backtest", "--peer", "seasonal_naive", "--country", "CN",
        "--out", "ahead.csv",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows_told = [line.split() for line in done.output.splitlines()]
    mase = {row[0]: float(row[1]) for row in rows_told if row[0] in ("blend", "seasonal_naive")}
    assert mase["blend"] < mase["seasonal_naive"]
    (tmp_path / "short.csv").write_text(monthly({name: values[:20] for name, values in rows.items()}))
    done = revisit("forecast", "series", "short.csv", *OPTIONS, "--backtest")
    assert done.exit_code == 2
    assert "needs at least 26 months" in done.output


def test_the_command_needs_records(revisit: Callable[..., Result]) -> None:
    done = revisit("forecast")
    assert done.exit_code == 2
    assert "revisit import" in done.output
