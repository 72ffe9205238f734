"""``revisit forecast``: the practice's months ahead, or those of any file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from serving.clock import now
from serving.commands.shared import friendly, settings

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from features.settings import Settings
    from training.demand.panel import Panel

HORIZON = click.IntRange(1, 60)
MODELS = ("structural", "boosted", "theta", "ets", "seasonal_naive")


@click.group(invoke_without_command=True)
@click.option("--horizon", default=12, show_default=True, type=HORIZON, help="Months ahead.")
@click.pass_context
@friendly
def forecast(context: click.Context, horizon: int) -> None:
    """Forecast visits, chair hours, revenue and new patients of every clinic, line and clinician, with capacity."""
    if context.invoked_subcommand is not None:
        return
    from serving.console import progress
    from training.demand.rebuild import rebuild

    practice = settings()
    with progress("forecasts") as told:
        made = rebuild(practice, now(), horizon, progress=told)
    click.echo(f"{made.series:,} series forecast: {', '.join(made.measures)}")
    language = practice.practice.language
    for measure, words in made.words.items():
        click.echo(f"{measure}: {words[language]}")
    if len(made.provisional):
        click.echo(f"provisional calendar (official days off not out yet): from {made.provisional[0]} on")


def nightly_forecast(practice: Settings, moment: datetime) -> str:
    """Forecast as a step of the night; too short a history is said, and is no failure."""
    from features.errors import NotEnoughDataError
    from training.demand.rebuild import rebuild

    try:
        made = rebuild(practice, moment)
    except NotEnoughDataError as error:
        return f"no forecast yet: {error}"
    return f"{made.series:,} series forecast: {', '.join(made.measures)}"


@forecast.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--id", "series", required=True, help="Column that names the series.")
@click.option("--time", "month", required=True, help="Column of the month.")
@click.option("--value", required=True, help="Column of the amount.")
@click.option("--horizon", default=12, show_default=True, type=HORIZON, help="Months ahead.")
@click.option(
    "--member",
    "members",
    multiple=True,
    type=click.Choice(MODELS),
    help="Model of the blend; may be given more than once.  [default: structural, boosted, theta]",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice(MODELS),
    help="Model beside it in the backtest; may be given more than once.  [default: seasonal_naive, ets, theta]",
)
@click.option("--country", help="Whose working days and holidays count, such as CN; none by default.")
@click.option("--backtest", "is_tested", is_flag=True, help="Also say how it would have done in the past.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the forecast to this CSV file.")
@friendly
def series(
    file: Path, series: str, month: str, value: str, horizon: int, members: tuple[str, ...], peers: tuple[str, ...],
    country: str | None, is_tested: bool, out: Path | None,
) -> None:  # fmt: skip
    """Forecast the monthly series of any CSV file with the same models."""
    from training.demand.blend import MEMBERS
    from training.demand.forecasting import forecast as run
    from training.demand.panel import Panel

    panel = Panel.from_frame(_read(file), series, month, value)
    calendar = _calendar(panel, country, horizon)
    used = members or MEMBERS
    found = run(panel, calendar, horizon, members=used)
    tested = _test(panel, calendar, horizon, used, peers) if is_tested else ""
    for name, note in found.notes:
        click.echo(f"note: {name}: {note}", err=True)
    table = found.frame()
    if out is None:
        click.echo(table.to_csv(index=False, float_format="%.6g"), nl=False)
    else:
        table.to_csv(out, index=False, float_format="%.6g")
        click.echo(f"{len(found.ids):,} series, {horizon} months ahead: {out}")
    if tested:
        click.echo(tested, err=out is None)


def _read(file: Path) -> pd.DataFrame:
    import pandas as pd

    from features.errors import FileError

    try:
        return pd.read_csv(file)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise FileError(f"{file} is not a CSV file that can be read: {error}") from None


def _calendar(panel: Panel, country: str | None, horizon: int) -> pd.DataFrame | None:
    import pandas as pd

    from training.demand.covariates import calendar_months

    if country is None:
        return None
    return calendar_months(country, pd.period_range(panel.months[0], panel.months[-1] + horizon, freq="M"))


def _test(
    panel: Panel, calendar: pd.DataFrame | None, horizon: int, members: tuple[str, ...], peers: tuple[str, ...]
) -> str:
    from features.errors import NotEnoughDataError
    from training.demand.backtest import PEERS, backtest, methods, summary
    from training.demand.blend import rolling_origins

    origins = rolling_origins(len(panel.months), horizon)[-1:]
    if not origins:
        raise NotEnoughDataError(
            f"A backtest of {horizon} months needs at least {horizon + 14} months; there are {len(panel.months)}."
        )
    told = summary(backtest(panel, methods(("blend", *(peers or PEERS)), members), origins, calendar, horizon))
    return str(told.drop(columns=["inside", "months"]).to_string(index=False, float_format=lambda x: f"{x:.3f}"))
