"""The forecast page and its API: the stored figures, as far as one may see them, in words."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import forecasts as kept
from features.settings import Paths, Practice, Settings
from serving import auth
from serving.app import create_app
from serving.clock import now
from serving.fan import HEIGHT, WIDTH, fan
from serving.forecast_words import percent
from serving.forecasts import Forecasts, Month, Series
from serving.keys import create_key
from serving.nightly import forecast_step
from serving.web import Options

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.10 asks for httpx2; httpx is what MLflow and others bring
    from fastapi.testclient import TestClient

MADE = datetime(2026, 10, 3, 2, 30, tzinfo=UTC)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    cheap = auth.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(auth, "_hasher", lambda: cheap)
    made = create_app(Settings(paths=Paths(data=tmp_path)), Options())
    auth.create_user(made.state.web.engine, "boss", "correct horse", "manager", "Boss")
    auth.create_user(made.state.web.engine, "east", "correct horse", "manager", "East", clinics=["east"])
    auth.create_user(made.state.web.engine, "none", "correct horse", "manager", "None", clinics=["elsewhere"])
    yield made
    made.state.web.engine.dispose()


def client_of(app: Any, username: str) -> TestClient:
    client = TestClient(app, follow_redirects=False)
    client.cookies.set("revisit_session", auth.sign_in(app.state.web.engine, username, "correct horse", now()))
    return client


def words_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_says_the_stored_figures(web: Any, store_forecast: Callable[..., None]) -> None:
    client = client_of(web, "boss")
    nothing = client.get("/forecast").text
    assert "There is no forecast yet" in nothing
    assert "<code>revisit forecast</code>" in nothing
    assert "echarts" not in nothing, "half a megabyte for nothing"
    store_forecast(web.state.web.settings, MADE)
    page = client.get("/forecast?measure=visits&series=clinic:east").text
    said = words_of(page)
    table = kept.read_version(web.state.web.settings)
    rows = table[(table["measure"] == "visits") & (table["series"] == "clinic:east")].set_index("month")
    found = dict(re.findall(r'data-month="(20\d\d-\d\d)-01" data-ahead[^>]*data-q50="([\d.]+)"', page))
    assert found == {str(month): f"{value:.4g}" for month, value in rows["q50"].items()}
    assert len(re.findall(r'data-month="[^"]+" data-q10', page)) == 12, "what was forecast a year before"
    assert page.count("data-provisional ") == 9
    for words in (
        "Visits · clinic:east".replace("clinic:east", "east"),
        "Made 3 Oct, 10:30",
        "clinic:east: 9 of 12 fell inside.",
        f"{rows['q50'].sum():,.0f} +0% against the 12 months before",
        "Provisional months",
        "68 more chair hours in Sep 2027 would fit nine futures in ten.",
        "Chair hours of this month are not known",
        "66%",
        "gloves",
        "less than a month",
        "Order now",
        "Cleaning",
    ):
        assert words in said, words
    assert "paste" not in said, "it lasts"
    assert page.index("gloves") < page.index("wire"), "the more urgent first"
    assert page.count('class="fan"') == 4
    assert 'src="/static/vendor/echarts.simple.min.js' in page
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|https?://", page)
    for path in ("/forecast?measure=visits&series=clinic:west", "/forecast?measure=wrong", "/forecast?series=%00"):
        assert client.get(path).status_code == 404


def test_nobody_sees_other_clinics(web: Any, store_forecast: Callable[..., None]) -> None:
    store_forecast(web.state.web.settings, MADE)
    east = client_of(web, "east")
    page = east.get("/forecast").text
    assert "Visits · east" in words_of(page)
    assert "north" not in page
    assert "Whole practice" not in page
    assert "wire" not in page
    assert east.get("/forecast?measure=visits&series=practice").status_code == 404
    found = east.get("/api/v1/forecasts?limit=200").json()["items"]
    assert {one["series"] for one in found} == {"clinic:east", "clinic_line:east/hygiene"}
    assert {one["clinic"] for one in east.get("/api/v1/forecasts/capacity").json()["items"]} == {"east"}
    assert {one["clinic"] for one in east.get("/api/v1/forecasts/consumables").json()["items"]} == {"east"}
    assert "There is no forecast yet" in client_of(web, "none").get("/forecast").text


def test_the_api_gives_the_same_in_pages(web: Any, store_forecast: Callable[..., None]) -> None:
    engine = web.state.web.engine
    key = create_key(engine, "dashboard", ["forecast.view"], now())
    client = TestClient(web, headers={"Authorization": f"Bearer {key}"})
    assert client.get("/api/v1/forecasts").status_code == 503
    store_forecast(web.state.web.settings, MADE)
    got, after = [], None
    while True:
        query = {"limit": 5, "measure": "visits"} | ({"after": after} if after else {})
        page = client.get("/api/v1/forecasts", params=query).json()
        got += page["items"]
        after = page["next"]
        if after is None:
            break
    names = [one["series"] for one in got]
    assert len(names) == len(set(names)) == 6
    assert names == sorted(names)
    table = kept.read_version(web.state.web.settings)
    rows = table[(table["measure"] == "visits") & (table["series"] == "practice")]
    (practice,) = (one for one in got if one["series"] == "practice")
    for level in ("q10", "q50", "q90"):
        assert [month[level] for month in practice["ahead"]] == pytest.approx(rows[level].tolist())
    assert practice["made_at"] == "2026-10-03T02:30:00Z"
    assert practice["past"][-1]["forecast"] == pytest.approx(practice["past"][-1]["actual"])
    assert practice["past"][0]["forecast"] is None
    hours = client.get("/api/v1/forecasts/capacity?limit=20").json()
    rest = client.get(f"/api/v1/forecasts/capacity?limit=20&after={hours['next']}").json()
    assert len(hours["items"]) + len(rest["items"]) == 24
    assert rest["items"][-1]["overload"] is None
    alerts = client.get("/api/v1/forecasts/consumables").json()["items"]
    assert [one["alert"] for one in alerts] == ["order now", "", "order soon"]
    assert client.get("/api/v1/forecasts?level=nowhere").status_code == 422


def test_a_newer_forecast_is_read_and_missing_parts_are_left_out(
    tmp_path: Path, store_forecast: Callable[..., None]
) -> None:
    settings = Settings(paths=Paths(data=tmp_path))
    reader = Forecasts(settings.paths.forecasts)
    assert reader.newest() is None
    store_forecast(settings, MADE)
    first = reader.newest()
    assert first is not None
    assert reader.newest() is first
    assert first.measures == ("visits", "revenue")
    for name in ("capacity", "consumables", "words", "backtest"):
        (settings.paths.forecasts / f"{name}.parquet").unlink()
    store_forecast_again = MADE + timedelta(days=30)
    shutil.copy(
        settings.paths.forecasts / "made" / f"{MADE:%Y%m%dT%H%M%SZ}.parquet",
        settings.paths.forecasts / "made" / f"{store_forecast_again:%Y%m%dT%H%M%SZ}.parquet",
    )
    second = reader.newest()
    assert second is not None
    assert (second.made_at, second.loads, second.supplies) == (store_forecast_again, (), ())
    assert second.series["visits", "practice"].words == {}


def test_nothing_english_is_left_on_the_chinese_page(web: Any, store_forecast: Callable[..., None]) -> None:
    client = client_of(web, "boss")
    client.cookies.set("revisit_language", "zh")
    allowed = r"Revisit demo practice|English|Boss|revisit forecast|east|north|gloves|wire|box"
    assert re.findall(r"[A-Za-z]{2,}", re.sub(allowed, "", words_of(client.get("/forecast").text))) == []
    store_forecast(web.state.web.settings, MADE)
    for path in ("/forecast", "/forecast?measure=revenue&series=clinic_line:east/hygiene"):
        page = words_of(client.get(path).text)
        assert re.findall(r"[A-Za-z]{2,}", re.sub(allowed, "", page)) == []


quantities = st.floats(0, 1e7)


@given(
    st.lists(quantities, max_size=40), st.lists(st.lists(quantities, min_size=9, max_size=9), min_size=1, max_size=24)
)
def test_a_small_fan_stays_within_its_frame(past: list[float], ahead: list[list[float]]) -> None:
    day = date(2026, 1, 1)
    series = Series(
        "visits", "practice", "practice", "", "", "", "",
        tuple(Month(day, (), value) for value in past),
        tuple(Month(day, tuple(sorted(values)), None) for values in ahead), {},
    )  # fmt: skip
    drawn = fan(series)
    for points in (drawn.past, drawn.middle, drawn.band, drawn.inner):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    assert len(drawn.middle.split()) == len(ahead) + bool(past)


def test_it_is_forecast_when_a_month_is_over_by_the_practices_clock() -> None:
    settings = Settings(practice=Practice(time_zone="Asia/Shanghai"))
    step = forecast_step(settings, lambda _settings, _now: "done")
    zone = ZoneInfo("Asia/Shanghai")
    last = datetime(2026, 10, 31, 23, 0, tzinfo=zone)
    assert step.is_due(last, None)
    assert not step.is_due(datetime(2026, 10, 31, 23, 59, tzinfo=zone), last)
    assert step.is_due(datetime(2026, 11, 1, 0, 30, tzinfo=zone).astimezone(UTC), last.astimezone(UTC))
    assert step.is_due(datetime(2027, 10, 31, tzinfo=zone), last)


def test_small_chances_are_not_rounded_away() -> None:
    assert [percent(share) for share in (0, 0.004, 0.5, 0.996, 1)] == ["0%", "<1%", "50%", ">99%", "100%"]
