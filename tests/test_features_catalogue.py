"""The catalogue: what it says of a feature's values, and the page and reference made of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from docs.generate import pages
from features.catalogue import BINS, catalogue, distribution
from features.errors import NotBuiltError
from features.families import FAMILIES
from features.snapshots import build_snapshots, folder_of, midnight
from features.spec import Feature

COUNT = Feature("visits_kept_count_ever", "kept", "Visits kept [visits]", "tenure")
FLAG = Feature("is_member", "member", "Has a membership [flag]", "membership")
NAMES = {feature.name for family in FAMILIES.values() for feature in family.features}


@given(st.lists(st.one_of(st.just(float("nan")), st.integers(-40, 4000).map(float), st.floats(-1e6, 1e6)), min_size=1))
def test_everybody_is_in_one_bar_or_missing(values: list[float]) -> None:
    found = distribution(COUNT, np.array(values))
    assert sum(found.bars) == sum(value == value for value in values)
    assert found.missing == pytest.approx(np.isnan(values).mean())
    assert len(found.bars) <= BINS
    if found.low is not None and found.median is not None and found.high is not None:
        assert {found.low, found.median, found.high} <= set(values)
        assert found.low <= found.median <= found.high


def test_whole_numbers_get_a_bar_each() -> None:
    found = distribution(COUNT, np.array([0.0, 0, 1, 2, 2, 2, 5, np.nan]))
    assert (found.bars, found.missing) == ((2, 1, 3, 0, 0, 1), 1 / 8)
    assert (found.low, found.median, found.high) == (0, 2, 5)
    wide = distribution(COUNT, np.arange(1000.0))
    assert set(wide.bars[1:-1]) == {41}


def test_flags_have_two_bars() -> None:
    assert distribution(FLAG, np.array([0.0, 0, 0])).bars == (3, 0)
    found = distribution(FLAG, np.array([1.0, 0, 1, 1]))
    assert (found.bars, found.mean) == ((1, 3), 0.75)
    assert distribution(FLAG, np.array([np.nan])).bars == ()


class Page(HTMLParser):
    """What a page names in code, plots and asks the network for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.codes: list[str] = []
        self.plots: list[str] = []
        self.requests: list[str] = []
        self._is_code = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._is_code = tag == "code"
        if tag == "svg" and given.get("class") == "plot":
            self.plots.append(given["aria-label"] or "")
        self.requests += [v for n, v in given.items() if n in ("src", "href") and v and not v.startswith("#")]
        assert tag != "script"

    def handle_data(self, data: str) -> None:
        if self._is_code:
            self.codes.append(data)
        self._is_code = False


def test_page_shows_every_feature_of_the_newest_snapshot(
    small_practice: Any, revisit: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from serving.catalogue_page import CHINESE

    settings = small_practice.settings
    build_snapshots(settings, [midnight(date(2026, 11, 17), settings)])
    monkeypatch.setenv("REVISIT_DATA", str(settings.paths.data))
    done = revisit("features", "catalogue", tmp_path / "out.html")
    assert done.exit_code == 0, done.output
    found = catalogue(settings)
    kept = duckdb.read_parquet(
        f"{folder_of(settings, 'attendance').as_posix()}/snapshot={found.as_of:%Y%m%dT%H%M%SZ}/*.parquet"
    ).fetchnumpy()["visits_kept_count_ever"]
    shown = next(one for one in found.families["attendance"] if one.feature.name == COUNT.name)
    assert (found.patients, shown.mean) == (len(kept), pytest.approx(kept.mean()))
    assert set(CHINESE) == set(FAMILIES)
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    page = Page(text)
    assert set(page.codes) >= NAMES
    assert {plot.partition(":")[0] for plot in page.plots} == NAMES
    assert page.requests == []
    assert "特征目录" in text


def test_catalogue_needs_snapshots(practice_here: Any, revisit: Callable[..., Result], tmp_path: Path) -> None:
    with pytest.raises(NotBuiltError, match="revisit features build"):
        catalogue(practice_here.settings)
    done = revisit("features", "catalogue", tmp_path / "out.html")
    assert done.exit_code == 2
    assert "revisit features build" in done.output
    assert not (tmp_path / "out.html").exists()


def test_reference_names_every_feature_of_patients() -> None:
    page = pages()["patient-features.md"]
    assert all(f"| `{name}` |" in page for name in NAMES)
    assert all(f"## `{name}`" in page for name in FAMILIES)
