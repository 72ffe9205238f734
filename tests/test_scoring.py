"""From champions to what pages show: loading, scoring, reasons, the level, the publication."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.contracts import CONTRACTS, NO_SHOW_BOOKING, NO_SHOW_EVENING
from features.duck import connect
from features.errors import ModelError, NotBuiltError
from features.settings import Paths, Settings
from features.store import build
from serving import db, models
from serving.desk_records import DAYS_SHOWN_BACK
from serving.explaining import reasons
from serving.i18n import LANGUAGES, language
from serving.models import find_champion, load_champion, newest_runs
from serving.reasons import SENTENCES, chosen, sentence
from serving.schedule import Booking, Score, read_day, read_overview
from serving.scoring import ScoringReport, score

Entries = dict[str, tuple[Booking, Score | None]]


def entries(settings: Settings) -> Entries:
    """Everything that is published, by booking."""
    engine, found = db.engine(settings.application_database), {}
    overview = read_overview(engine, settings.zone)
    assert overview.first_day
    assert overview.last_day
    for clinic in overview.clinics:
        for day in pd.date_range(overview.first_day, overview.last_day):
            for booking, made in read_day(engine, clinic, day.date(), settings.zone):
                found[booking.appointment_id] = (booking, made)
    engine.dispose()
    return found


def stored_features(settings: Settings) -> pd.DataFrame:
    return pd.read_parquet(settings.paths.features / "schedule.parquet")


@pytest.fixture(scope="module")
def now(trained_practice: Any) -> datetime:
    moment: datetime = trained_practice.simulated.plan.now
    return moment


@pytest.fixture(scope="module")
def report(trained_practice: Any, now: datetime) -> ScoringReport:
    with trained_practice.listening():
        return score(trained_practice.settings, now)


@pytest.fixture(scope="module")
def shown(trained_practice: Any, report: ScoringReport) -> Entries:
    return entries(trained_practice.settings)


@pytest.fixture
def without_champions(trained_practice: Any) -> Iterator[None]:
    from training.registry import connect as registry

    client = registry(trained_practice.settings)
    versions = {name: client.get_model_version_by_alias(name, "champion").version for name in CONTRACTS}
    for name in CONTRACTS:
        client.delete_registered_model_alias(name, "champion")
    yield
    for name, version in versions.items():
        client.set_registered_model_alias(name, "champion", version)


def test_model_predicts_where_training_cannot_be_imported(trained_practice: Any, tmp_path: Path) -> None:
    settings = trained_practice.settings
    rows = stored_features(settings)
    rows = rows[rows["moment"] == "evening"].tail(200)
    rows.to_parquet(tmp_path / "rows.parquet")
    code = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "training":
            raise ImportError("training is not installed here")
sys.meta_path.insert(0, Refuse())
import pandas as pd
from features.contracts import NO_SHOW_EVENING
from features.settings import load_settings
from serving.models import load_champion
champion = load_champion(load_settings(), NO_SHOW_EVENING)
made = champion.score(pd.read_parquet("rows.parquet"))["probability"].tolist()
assert "training" not in sys.modules
print(json.dumps(made))
"""
    environment = os.environ | {
        "REVISIT_DATA": str(settings.paths.data),
        "REVISIT_MLRUNS": str(settings.paths.mlruns),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    champion = load_champion(settings, NO_SHOW_EVENING)
    assert champion is not None
    assert json.loads(done.stdout.splitlines()[-1]) == champion.score(rows)["probability"].tolist()


def test_champion_of_another_contract_is_refused(trained_practice: Any) -> None:
    other = replace(NO_SHOW_EVENING, version=99)
    with pytest.raises(ModelError) as refused:
        load_champion(trained_practice.settings, other)
    assert NO_SHOW_EVENING.fingerprint in str(refused.value)
    assert other.fingerprint in str(refused.value)


def test_champion_without_its_files_is_one_sentence(trained_practice: Any) -> None:
    artifacts = trained_practice.settings.paths.mlruns / "artifacts"
    artifacts.rename(artifacts.with_name("gone"))
    try:
        with pytest.raises(ModelError, match="cannot be opened") as refused:
            load_champion(trained_practice.settings, NO_SHOW_EVENING)
    finally:
        artifacts.with_name("gone").rename(artifacts)
    assert "\n" not in str(refused.value)


def test_no_champion_is_none(trained_practice: Any, tmp_path: Path, without_champions: None) -> None:
    settings = trained_practice.settings
    assert load_champion(settings, NO_SHOW_EVENING) is None
    assert find_champion(settings, replace(NO_SHOW_EVENING, name="never_trained")) is None
    empty = Settings(paths=Paths(data=tmp_path / "data", mlruns=tmp_path / "mlruns"))
    assert find_champion(empty, NO_SHOW_EVENING) is None
    assert set(newest_runs(settings, list(CONTRACTS.values()))) == set(CONTRACTS)


def test_a_registry_that_cannot_be_read_is_not_taken_for_an_empty_one(
    trained_practice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(settings: Settings) -> None:
        raise OSError("disk")

    monkeypatch.setattr(models, "_client", broken)
    with pytest.raises(ModelError, match="cannot be read"):
        find_champion(trained_practice.settings, NO_SHOW_EVENING)


def test_score_adds_up_and_is_shifted(trained_practice: Any) -> None:
    champion = load_champion(trained_practice.settings, NO_SHOW_EVENING)
    assert champion is not None
    rows = stored_features(trained_practice.settings).set_index("appointment_id").tail(300)
    assert rows.index.has_duplicates  # the same booking at its two moments
    plain, shifted = champion.score(rows), champion.score(rows, 0.3)
    logits = [np.log(found["probability"] / (1 - found["probability"])) for found in (plain, shifted)]
    assert np.abs(logits[1] - logits[0] - 0.3).max() < 1e-9
    for found, logit in zip((plain, shifted), logits, strict=True):
        assert np.abs(found.drop(columns="probability").sum(axis=1) - logit).max() < 1e-9


def test_every_booking_ahead_has_the_score_of_its_moment(
    trained_practice: Any, now: datetime, report: ScoringReport, shown: Entries
) -> None:
    table = trained_practice.simulated.tables["appointments"]
    ahead = table[(table["status"] == "booked") & (table["starts_at"] > now)]
    assert len(ahead) > 100
    zone = trained_practice.settings.zone
    evening = ahead["starts_at"].dt.tz_convert(zone).dt.normalize() - pd.Timedelta(hours=3)
    is_evening = (evening <= now) & (ahead["booked_at"] < evening)
    expected = dict(
        zip(ahead["appointment_id"], np.where(is_evening, "no_show_evening", "no_show_booking"), strict=True)
    )
    made = {key: score.contract for key, (_, score) in shown.items() if score is not None}
    assert {key: made.get(key) for key in expected} == expected
    assert set(expected.values()) == set(CONTRACTS)
    assert report.scored == {name: list(made.values()).count(name) for name in CONTRACTS}
    assert report.bookings == len(shown)
    assert report.without_model == ()
    moments = evening.where(is_evening, ahead["booked_at"] + pd.Timedelta(seconds=60)).set_axis(ahead["appointment_id"])
    for key in expected:
        made_score = shown[key][1]
        assert made_score is not None
        assert made_score.as_of == moments[key].tz_convert("UTC").to_pydatetime()
        assert made_score.as_of <= now == made_score.scored_at


def test_scores_are_the_champions_on_the_stored_features(trained_practice: Any, shown: Entries) -> None:
    rows = stored_features(trained_practice.settings).set_index(["appointment_id", "moment"])
    for name, contract in CONTRACTS.items():
        champion = load_champion(trained_practice.settings, contract)
        assert champion is not None
        made = {key: s for key, (_, s) in shown.items() if s is not None and s.contract == name}
        features = rows.loc[[(key, contract.moment) for key in made]]
        expected = champion.score(features)  # trained just now: no outcome since, no shift
        found = np.array([s.probability for s in made.values()])
        assert np.abs(found - expected["probability"].to_numpy()).max() < 1e-9
        assert {s.model_version for s in made.values()} == {champion.version.number}
        grouped = {f.name for f in contract.features if f.reason}
        sums = expected[sorted(grouped)].sum(axis=1).to_numpy()
        told = np.array([sum(r.contribution for r in s.reasons) for s in made.values()])
        assert np.abs(told - sums).max() < 1e-3  # contributions are stored with four decimals


def test_reasons_can_be_said_and_are_never_protected(shown: Entries) -> None:
    said, codes = set(), set()
    for booking, made in shown.values():
        for reason in made.reasons if made else ():
            codes.add(reason.code)
            assert reason.code in SENTENCES
            assert reason.direction == (1 if reason.contribution > 0 else -1)
            for code in LANGUAGES:
                text = sentence(reason, language(code))
                assert text
                assert "%(" not in text
                said.add(text)
            if reason.code == "lead_time":
                days = reason.values["days"]
                local = [moment.astimezone(language_zone()) for moment in (booking.booked_at, booking.starts_at)]
                assert days == (local[1].date() - local[0].date()).days
        if made:
            assert len({r.code for r in made.reasons}) == len(made.reasons)
            assert all(r.code in SENTENCES for r in chosen(made.reasons, "high"))
    assert {"lead_time", "attendance", "time_slot", "clinic_level"} <= codes
    assert len(said) > 50
    protected = {f.name for c in CONTRACTS.values() for f in c.features if f.reason is None}
    assert not codes & protected
    assert not [text for text in said if any(word in text.lower() for word in (" age", "sex", "female", "tag"))]


def language_zone() -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo("Asia/Shanghai")


def test_clinics_share_is_the_one_on_record(trained_practice: Any, now: datetime, shown: Entries) -> None:
    table = trained_practice.simulated.tables["appointments"]
    lately = table[table["status_known_at"].between(now - timedelta(days=90), now, inclusive="left")]
    ended = lately[lately["status"].isin(["completed", "arrived", "no_show", "cancelled_late"])]
    percent = round(100 * ended["status"].isin(["no_show", "cancelled_late"]).mean())
    told = {r.values["percent"] for _, s in shown.values() if s for r in s.reasons if r.code == "clinic_level"}
    assert told == {percent}
    assert percent > 0


FEATURES = {f.name: 0.0 for f in NO_SHOW_EVENING.features} | {"days_since_visit_kept": float("nan")}


def codes_of(contract: Any, each: float = 0.1, **changed: float) -> dict[str, Any]:
    numbers = {f.name: FEATURES.get(f.name, 0.0) for f in contract.features} | changed
    found = reasons(contract, numbers, dict.fromkeys(numbers, each), "filling", 0.12)
    return {reason.code: reason for reason in found}


def test_history_reads_as_it_was() -> None:
    new = codes_of(NO_SHOW_EVENING)
    assert "new_patient" in new
    assert not {"attendance", "missed_visits", "last_visit"} & set(new)
    loyal = codes_of(NO_SHOW_EVENING, -0.1, visits_ended_count_ever=5, days_since_visit_kept=30)
    assert loyal["attendance"].values == {"attended": 5, "past": 5}
    assert loyal["last_visit"].values == {"days": 30}
    assert "missed_visits" not in loyal
    never = codes_of(NO_SHOW_EVENING, visits_ended_count_ever=2, visits_missed_count_ever=2)
    assert never["missed_visits"].values == {"missed": 2, "past": 2}
    assert "last_visit" not in never


def test_a_record_is_said_once_and_as_it_points() -> None:
    past = {"visits_ended_count_ever": 9, "visits_missed_count_ever": 2, "days_since_visit_kept": 30}
    worse, better = codes_of(NO_SHOW_EVENING, 0.1, **past), codes_of(NO_SHOW_EVENING, -0.1, **past)
    assert worse["missed_visits"].direction == 1
    assert better["attendance"].direction == -1
    assert "attendance" not in worse
    assert "missed_visits" not in better
    short = codes_of(NO_SHOW_EVENING, 0.1, visits_ended_count_ever=1, days_since_visit_kept=30)
    assert short["short_record"].values == {"past": 1}


def test_days_ahead_count_from_the_booking_to_the_visit() -> None:
    evening = codes_of(NO_SHOW_EVENING, days_since_booking=0)  # booked today, for tomorrow
    assert sentence(evening["lead_time"], language("en")) == "Booked 1 day ahead"
    booking = codes_of(NO_SHOW_BOOKING, days_until_visit=0)
    assert sentence(booking["lead_time"], language("en")) == "Booked for the same day"
    assert codes_of(NO_SHOW_BOOKING, days_until_visit=14)["lead_time"].values == {"days": 14}


def test_a_clinic_without_recent_visits_is_no_reason() -> None:
    numbers = {f.name: FEATURES.get(f.name, 0.0) for f in NO_SHOW_EVENING.features}
    found = reasons(NO_SHOW_EVENING, numbers, dict.fromkeys(numbers, 0.1), None)
    assert "clinic_level" not in {reason.code for reason in found}


def test_unknown_numbers_can_be_said_too() -> None:
    for contract in CONTRACTS.values():
        numbers = dict.fromkeys(contract.feature_names, float("nan"))
        for reason in reasons(contract, numbers, dict.fromkeys(numbers, -0.2), None, 0.1):
            assert all(sentence(reason, language(code)) for code in LANGUAGES)


def test_the_past_the_cancelled_and_the_moved(trained_practice: Any, now: datetime, shown: Entries) -> None:
    table = trained_practice.simulated.tables["appointments"].set_index("appointment_id")
    expected = table[(table["starts_at"] >= now - timedelta(days=DAYS_SHOWN_BACK)) & (table["status"] != "rescheduled")]
    assert set(shown) == set(expected.index)
    status = expected["status"].where(expected["status_known_at"] < now, "booked")  # known later is not known
    assert {key: booking.status for key, (booking, _) in shown.items()} == status.to_dict()
    assert {"booked", "completed", "cancelled_early"} <= set(expected["status"])
    for booking, made in shown.values():
        assert (made is not None) == (booking.status == "booked"), booking.status


def test_names_come_from_contact_details(trained_practice: Any, shown: Entries) -> None:
    names = (
        trained_practice.simulated.tables["contact_details"]
        .drop_duplicates("patient_id")
        .set_index("patient_id")["full_name"]
    )
    born = (
        trained_practice.simulated.tables["patients"]
        .drop_duplicates("patient_id")
        .set_index("patient_id")["birth_year"]
    )
    for booking, _ in shown.values():
        assert booking.patient_name == names[booking.patient_id]
        assert booking.birth_year == born[booking.patient_id]


def test_without_champions_the_schedule_is_published_unscored(
    trained_practice: Any, now: datetime, report: ScoringReport, without_champions: None
) -> None:
    found = score(trained_practice.settings, now)
    assert found.bookings == report.bookings
    assert found.scored == dict.fromkeys(CONTRACTS, 0)
    assert found.without_model == tuple(CONTRACTS)
    assert all(made is None for _, made in entries(trained_practice.settings).values())


def test_level_of_outcomes_since_training_moves_every_score(
    trained_practice: Any, now: datetime, shown: Entries
) -> None:
    """As if the champions had been trained 60 days ago: their surprise since then is in every score."""
    since = now - timedelta(days=60)

    class Older(models.Champions):
        def get(self, contract: str) -> Any:
            champion = super().get(contract)
            assert champion is not None
            return replace(champion, version=replace(champion.version, trained_until=since))

    score(trained_practice.settings, now, Older(trained_practice.settings))
    after = entries(trained_practice.settings)
    for name, contract in CONTRACTS.items():
        examples = trained_practice.examples(name)
        recent = examples[examples["label_known_at"] >= pd.Timestamp(since)]
        champion = load_champion(trained_practice.settings, contract)
        assert champion is not None
        p = champion.score(recent)["probability"].to_numpy()
        shift = (recent["label"].to_numpy() - p).sum() / ((p * (1 - p)).sum() + 2500)
        assert abs(shift) > 1e-5
        moved = [
            _logit(after[key][1].probability) - _logit(made.probability)  # type: ignore[union-attr]
            for key, (_, made) in shown.items()
            if made is not None and made.contract == name
        ]
        assert moved
        assert np.abs(np.array(moved) - shift).max() < 1e-9


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def test_nothing_built_nothing_published(practice_here: Any, now: datetime) -> None:
    with pytest.raises(NotBuiltError, match="features build"):
        score(practice_here.settings, now)
    assert not (practice_here.root / "data" / "revisit.db").exists()


def test_bookings_newer_than_the_features_are_shown_unscored(
    trained_practice: Any, now: datetime, practice_at: Any, tmp_path: Path
) -> None:
    """A later import without a build: its bookings are there, without a score, and nothing breaks."""
    from shutil import copytree

    from features.records.landing import import_files
    from features.records.mapping import load_mapping

    source = trained_practice.folder.root
    practice = practice_at(tmp_path)
    copytree(source / "data", tmp_path / "data")
    practice.settings = practice.settings.model_copy(
        update={"paths": Paths(data=tmp_path / "data", mlruns=source / "mlruns")}
    )
    file = tmp_path / "appointments.csv"
    table = pd.read_csv(source / "export" / "appointments.csv", dtype=str)
    fresh = table[table["status"] == "booked"].tail(1).assign(appointment_id="NEW1")
    fresh["booked_at"] = "2026-11-17 09:00:00"
    fresh.to_csv(file, index=False)
    mapping = (source / "export" / "mapping.toml").read_text()
    head, _, rest = mapping.partition("\n\n")
    part = next(p for p in rest.split("\n\n") if p.startswith("[tables.appointments]"))
    (tmp_path / "m.toml").write_text(head + "\n\n" + part)
    later = now + timedelta(minutes=1)
    import_files(practice.store, tmp_path, load_mapping(tmp_path / "m.toml"), later)
    build_before = (practice.settings.paths.features / "build.json").read_text()
    score(practice.settings, later + timedelta(minutes=1))
    found = entries(practice.settings)
    assert found["NEW1"][1] is None
    assert sum(made is not None for _, made in found.values()) > 100
    build(practice.settings, later + timedelta(minutes=1))
    assert (practice.settings.paths.features / "build.json").read_text() != build_before
    score(practice.settings, later + timedelta(minutes=1))
    assert entries(practice.settings)["NEW1"][1] is not None


def test_published_names_stay_out_of_features(trained_practice: Any, shown: Entries) -> None:
    with connect() as con:
        columns = con.sql(
            f"SELECT * FROM read_parquet('{trained_practice.settings.paths.features}/schedule.parquet') LIMIT 0"
        ).columns
    assert not {"full_name", "phone", "patient_name"} & set(columns)
