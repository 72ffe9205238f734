"""Any SQL database: the same practice on SQLite and PostgreSQL, and every way in which a database says no."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from features.duck import connect
from features.errors import FileError, MappingError
from features.records.landing import import_files
from features.records.mapping import load_mapping
from features.records.sql import as_text, load_queries

sqlalchemy = pytest.importorskip("sqlalchemy", reason="reading databases needs revisit[sql]")

SERVER = os.environ.get("REVISIT_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432")
NOW = datetime(2026, 11, 17, 1, 30, tzinfo=UTC)
SECRET = "p4ss-word"
TABLES = (
    "CREATE TABLE patient (id INTEGER PRIMARY KEY, birth_year INTEGER, sex VARCHAR(1), created_at TIMESTAMP)",
    """CREATE TABLE booking (id INTEGER PRIMARY KEY, patient_id INTEGER, site VARCHAR(20), kind VARCHAR(20),
    state VARCHAR(20), price NUMERIC(10, 2), made_at TIMESTAMP, begins_at TIMESTAMP, changed_at TIMESTAMP)""",
    "INSERT INTO patient VALUES (1, 1980, 'F', '2025-01-01 09:00:00'), (2, NULL, 'M', '2025-01-02 09:00:00')",
    """INSERT INTO booking VALUES
    (1, 1, 'east', 'check-up', 'done', 120.50, '2025-01-01 09:00:00', '2025-02-01 09:00:00', '2025-02-01 10:00:00'),
    (2, 1, 'east', 'filling', 'missed', NULL, '2025-01-01 09:00:00', '2025-03-01 09:00:00', '2025-03-01 18:00:00'),
    (3, 2, 'west', 'filling', 'lost', NULL, '2025-01-01 09:00:00', '2025-03-01 09:00:00', NULL),
    (4, 2, 'west', 'whitening', 'done', NULL, '2025-01-01 09:00:00', '2025-03-01 09:00:00', NULL)""",
)


def fill(url: str) -> None:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for statement in TABLES:
            connection.exec_driver_sql(statement)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    pytest.importorskip("psycopg", reason="reading PostgreSQL needs revisit[sql]")
    name = f"revisit_sql_{os.getpid()}"
    server = sqlalchemy.create_engine(
        f"{SERVER}/postgres",
        poolclass=sqlalchemy.NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={"connect_timeout": 3},
    )
    try:
        with server.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except sqlalchemy.exc.OperationalError:
        pytest.skip("no PostgreSQL answers on 127.0.0.1:5432 (REVISIT_TEST_POSTGRES names another)")
    try:
        fill(f"{SERVER}/{name}")
        yield f"{SERVER}/{name}"
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    fill(f"sqlite:///{tmp_path / 'clinic.db'}")
    return f"sqlite:///{tmp_path / 'clinic.db'}"


def example(repository: Path, tmp_path: Path, *changes: tuple[str, str], postgres: bool = True) -> Path:
    text = (repository / "docs" / "examples" / "sql.toml").read_text(encoding="utf-8")
    if not postgres:  # SQLite's dates are text
        text = text.replace("CAST(:first_day AS date)", ":first_day")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "sql.toml").write_text(text, encoding="utf-8")
    return tmp_path / "sql.toml"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_sql_example_fills_the_records(
    kind: str, request: pytest.FixtureRequest, practice_here: Any, repository: Path, tmp_path: Path
) -> None:
    url = request.getfixturevalue(kind)
    mapping = load_mapping(example(repository, tmp_path, postgres=kind == "postgres"))
    report = import_files(practice_here.store, url, mapping, NOW)
    assert practice_here.rows(
        """SELECT appointment_id, patient_id, clinic_id, status, fee_cents, epoch(starts_at)::BIGINT
        FROM appointments QUALIFY row_number() OVER (PARTITION BY appointment_id ORDER BY known_at DESC) = 1
        ORDER BY 1"""
    ) == [
        ("1", "1", "east", "completed", 12050, int(datetime(2025, 2, 1, 1, tzinfo=UTC).timestamp())),
        ("2", "1", "east", "no_show", None, int(datetime(2025, 3, 1, 1, tzinfo=UTC).timestamp())),
    ]
    assert report.quarantined_rows == 1
    assert practice_here.rows("SELECT source LIKE '%: appointments', row_number, column_name FROM quarantine") == [
        (True, 3, "status")
    ]
    assert "1 bookings of other kinds were left out." in report.notes
    assert not import_files(practice_here.store, url, mapping, NOW).has_changes


def test_sql_moments_with_an_offset_are_taken_as_they_are(postgres: str, tmp_path: Path, practice_here: Any) -> None:
    (tmp_path / "m.toml").write_text(
        """
format = "sql"
time_zone = "Asia/Shanghai"
[tables.patients]
query = "SELECT 7 AS id, TIMESTAMPTZ '2025-10-26 00:30:00+00' AS at UNION ALL SELECT 8, '2025-10-26 02:30:00+02'"
[tables.patients.columns]
patient_id = "id"
known_from_at = "at"
""",
        encoding="utf-8",
    )
    import_files(practice_here.store, postgres, load_mapping(tmp_path / "m.toml"), NOW)
    rows = practice_here.rows("SELECT epoch(known_at)::BIGINT FROM patients")
    assert rows == [(int(datetime(2025, 10, 26, 0, 30, tzinfo=UTC).timestamp()),)] * 2


def test_sql_cannot_write(postgres: str, repository: Path, tmp_path: Path) -> None:
    writing = (
        'query = "SELECT id, birth_year, sex, created_at FROM patient"',
        'query = "INSERT INTO patient (id) VALUES (99) RETURNING id, birth_year, sex, created_at"',
    )
    mapping = load_mapping(example(repository, tmp_path, writing))
    with connect() as con, pytest.raises(MappingError, match="the query of patients fails"):
        load_queries(con, postgres, mapping)
    engine = sqlalchemy.create_engine(postgres, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM patient").scalar() == 2


def test_sql_streams_every_row_once_and_in_order(postgres: str, tmp_path: Path) -> None:
    rows = 70_001  # more than three batches
    (tmp_path / "m.toml").write_text(
        f"""
format = "sql"
time_zone = "UTC"
[tables.patients]
query = "SELECT i AS id FROM generate_series(1, {rows}) i"
[tables.patients.columns]
patient_id = "id"
""",
        encoding="utf-8",
    )
    with connect() as con:
        raws, _, _ = load_queries(con, postgres, load_mapping(tmp_path / "m.toml"))
        counted = con.execute(
            f"SELECT count(*), count(DISTINCT id), bool_and(_row = CAST(id AS BIGINT)) FROM {raws['patients'].name}"
        ).fetchall()
    assert counted == [(rows, rows, True)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (True, "true"),
        (12, "12"),
        (Decimal("1E+2"), "100"),
        (Decimal("12.50"), "12.50"),
        (date(2025, 1, 2), "2025-01-02"),
        (date(1, 1, 1), None),
        (datetime(1, 1, 1), None),  # noqa: DTZ001
        ("0000-00-00", None),
        (datetime(2025, 1, 2, 3, 4, 5), "2025-01-02 03:04:05"),  # noqa: DTZ001
        (datetime(2025, 1, 2, 3, tzinfo=UTC), "2025-01-02 03:00:00+00:00"),
        (time(3, 4), "03:04:00"),
        ("王小明".encode(), "王小明"),
        (b"\xff", "\ufffd"),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_sql_values_become_text(value: object, text: str | None) -> None:
    assert as_text(value) == text


PLACE = "127.0.0.1:5432"
QUERY = "SELECT id, birth_year, sex, created_at FROM patient"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/x", "127.0.0.1:1/x cannot be reached"),
        (f"mysql+pymysql://u:{SECRET}@127.0.0.1:1/x", "127.0.0.1:1/x cannot be reached"),
        (f"postgresql+psycopg://u:{SECRET}@no-such-host.invalid/x", "is a host name that cannot be found"),
        (f"mysql+pymysql://u:{SECRET}@no-such-host.invalid/x", "is a host name that cannot be found"),
        (f"nosuch://u:{SECRET}@h/x", "no driver for 'nosuch'"),
        (f"postgresql+nosuch://u:{SECRET}@h/x", "no driver for 'postgresql+nosuch'"),
        (f"postgresql+psycopg://u:{SECRET}@h:port/x", "the database URL cannot be read"),
        ("sqlite:///nowhere/clinic.db", "does not exist"),
    ],
)
def test_sql_what_cannot_be_reached_is_one_clear_error(
    url: str, expected: str, revisit: Callable[..., Result], repository: Path, tmp_path: Path
) -> None:
    result = revisit("import", url, "-m", example(repository, tmp_path))
    assert result.exit_code == 2
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert SECRET not in result.output
    assert not list((tmp_path / "data").rglob("manifest.json"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/no_such_database", "has no database of this name"), ("//nobody-there", "does not know this user")],
)
def test_sql_postgres_refuses(
    path: str, expected: str, postgres: str, revisit: Callable[..., Result], repository: Path, tmp_path: Path
) -> None:
    url = f"{SERVER}{path}" if not path.startswith("//") else postgres.replace("postgres@", f"nobody:{SECRET}@")
    result = revisit("import", url, "-m", example(repository, tmp_path))
    assert result.exit_code == 2
    assert expected in result.stderr
    assert SECRET not in result.output


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT id, birth_year, sex, created_at FROM patients", "the query of patients fails: "),
        ("SELECT id, birth_yeer, sex, created_at FROM patient", "birth_yeer"),
        ("SELEKT id FROM patient", "syntax error"),
        ("SELECT id, sex, created_at FROM patient", "does not return birth_year; it returns id, sex, created_at"),
        ("SELECT id, id, birth_year, sex, created_at FROM patient", "returns a column name twice"),
        ("SELECT id, birth_year, sex, created_at FROM patient WHERE id = :one", "asks for :one"),
    ],
)
def test_sql_a_wrong_query_is_one_clear_error(
    kind: str,
    query: str,
    expected: str,
    request: pytest.FixtureRequest,
    revisit: Callable[..., Result],
    repository: Path,
    tmp_path: Path,
) -> None:
    url = request.getfixturevalue(kind)
    result = revisit("import", url, "-m", example(repository, tmp_path, (QUERY, query), postgres=kind == "postgres"))
    assert result.exit_code == 2
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list((tmp_path / "data").rglob("manifest.json"))


def test_sql_an_error_about_a_value_does_not_quote_it(postgres: str, repository: Path, tmp_path: Path) -> None:
    mapping = load_mapping(
        example(
            repository,
            tmp_path,
            (QUERY, "SELECT CAST('Wilhelmina' AS integer) AS id, birth_year, sex, created_at FROM patient"),
        )
    )
    with connect() as con, pytest.raises(MappingError, match="fails") as caught:
        load_queries(con, postgres, mapping)
    assert "Wilhelmina" not in str(caught.value)


def test_sql_a_value_the_driver_cannot_hold_is_one_error(postgres: str, repository: Path, tmp_path: Path) -> None:
    change = (QUERY, "SELECT id, birth_year, sex, TIMESTAMP 'infinity' AS created_at FROM patient")
    mapping = load_mapping(example(repository, tmp_path, change))
    with connect() as con, pytest.raises(MappingError, match="cast its column to text"):
        load_queries(con, postgres, mapping)


def test_sql_source_and_mapping_must_fit(practice_here: Any, repository: Path, tmp_path: Path, sqlite: str) -> None:
    mapping = load_mapping(example(repository, tmp_path))
    with pytest.raises(FileError, match="reads a database; give its URL"):
        import_files(practice_here.store, tmp_path, mapping, NOW)
    files = load_mapping(repository / "docs" / "examples" / "no_show_brazil.toml")
    with pytest.raises(MappingError, match="reads files"):
        import_files(practice_here.store, sqlite, files, NOW)
    with pytest.raises(FileError, match="reads a folder of NDJSON"):
        import_files(practice_here.store, sqlite, load_mapping(repository / "docs" / "examples" / "fhir.toml"), NOW)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ('format = "sql"', 'format = "odbc"'),
            "format must be one of delimited, spaces, fixed, fhir",
        ),
        (('format = "sql"', 'format = "delimited"'), 'a query needs format = "sql"'),
        (('kinds = ["check-up", "filling"]', "kinds = []"), "[parameters] must be texts, numbers or lists"),
        ((f'query = "{QUERY}"\n', ""), "patients needs a query"),
    ],
)
def test_sql_a_wrong_mapping_says_what_is_wrong(
    change: tuple[str, str], expected: str, repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(MappingError) as caught:
        load_mapping(example(repository, tmp_path, change))
    assert expected in str(caught.value)
