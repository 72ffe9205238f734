"""One practice's settings: read once, never changed while running."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from features.errors import SettingsError


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("is not a time zone of the IANA database, such as Asia/Shanghai")
    return name


class _Chapter(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Practice(_Chapter):
    """Who the practice is and which clock it lives by."""

    name: str = "Revisit demo practice"
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "Asia/Shanghai"
    country: str = Field(default="CN", pattern="^[A-Z]{2}$")
    language: str = Field(default="en", pattern="^(en|zh)$")


class NoShow(_Chapter):
    """When a booking is scored and from which probability on it is flagged."""

    evening_hour: int = Field(default=21, ge=12, le=23)  # local hour of the evening-before decision
    high_risk: float = Field(default=0.30, gt=0, lt=1)
    medium_risk: float = Field(default=0.15, gt=0, lt=1)


class Recall(_Chapter):
    """When a patient without a prescription and without a rhythm is due, and what a week's list of calls may hold."""

    default_interval_days: int = Field(default=183, ge=28, le=1100)
    calls_per_week: int = Field(default=40, ge=1, le=500)
    hold_out_share: float = Field(default=0.10, ge=0, le=0.5)  # left alone by chance: how the effect is measured
    long_overdue_share: float = Field(default=0.20, ge=0, le=1)
    contact_gap_days: int = Field(default=28, ge=1, le=366)
    contacts_per_year: int = Field(default=6, ge=1, le=52)
    channels: tuple[Literal["phone", "wechat", "sms", "email"], ...] = ("phone", "wechat", "sms", "email")


class Desk(_Chapter):
    """From when on the schedule flags a patient."""

    lapse_risk: float = Field(default=0.25, gt=0, lt=1)  # probability of missing the recall window
    overdue_weeks: int = Field(default=2, ge=0, le=104)  # past the due date of the recall
    unanswered: int = Field(default=2, ge=1, le=20)  # messages and calls in a row


class Source(_Chapter):
    """One export that the night's run imports."""

    path: str  # file, folder or database URL; $NAME stands for an environment variable
    mapping: str


class Nightly(_Chapter):
    """What the night's run imports before it scores."""

    sources: tuple[Source, ...] = ()


class Online(_Chapter):
    """Where the features lie that the desk reads."""

    store: Literal["sqlite", "redis", "postgres"] = "sqlite"
    url: str = ""  # of Redis or PostgreSQL, such as redis://127.0.0.1:6379/0
    prefix: str = Field(default="revisit", pattern="^[a-z][a-z0-9_]{0,20}$")  # of its keys or tables

    @model_validator(mode="after")
    def _needs_url(self) -> Self:
        if self.store != "sqlite" and not self.url:
            raise ValueError(f'store = "{self.store}" needs a url (or the variable REVISIT_ONLINE_URL)')
        return self


class CdsClient(_Chapter):
    """One system that may ask for decision support with tokens of its own."""

    issuer: str = Field(min_length=1, max_length=180)  # `iss` of its tokens
    jwks: str  # file with its public keys (JWK Set)
    clinics: tuple[str, ...] | None = None  # those it may ask about; all by default


class CdsHooks(_Chapter):
    """Who may ask for decision support (CDS Hooks)."""

    base_url: str = ""  # address of Revisit as clients call it, without /cds-services
    clients: tuple[CdsClient, ...] = ()

    @model_validator(mode="after")
    def _needs_base_url(self) -> Self:
        if self.clients and not self.base_url.startswith(("https://", "http://")):
            raise ValueError("clients need base_url, such as https://revisit.example: tokens name the address called")
        return self


class Spark(_Chapter):
    """Where features are computed that one machine is too small for."""

    master: str = Field(default="local[2]", pattern=r"^(local(\[.+\])?|local-cluster\[.+\]|spark://.+|k8s://.+|yarn)$")
    joins: bool = False  # whether Feast joins training sets there too


class Paths(_Chapter):
    """Where everything that is made at run time lives."""

    data: Path = Path("data")
    mlruns: Path = Path("mlruns")

    @property
    def records(self) -> Path:
        """Delta tables, their manifest and the quarantine."""
        return self.data / "records"

    @property
    def features(self) -> Path:
        """Parquet datasets of feature families."""
        return self.data / "features"

    @property
    def forecasts(self) -> Path:
        """What was forecast when, and what came."""
        return self.data / "forecasts"

    @property
    def tracking_uri(self) -> str:
        """MLflow's database."""
        return f"sqlite:///{(self.mlruns / 'mlflow.db').as_posix()}"

    @property
    def feast(self) -> Path:
        """Feast's registry and its online store."""
        return self.data / "feast"


class Settings(_Chapter):
    """All settings of one practice.

    Attributes
    ----------
    practice, no_show, recall, desk, online, cds_hooks, spark, nightly, paths
        The chapters of ``practice.toml``.
    database_url : str
        SQLAlchemy URL of the application database; empty means SQLite under
        ``paths.data``.
    """

    practice: Practice = Practice()
    no_show: NoShow = NoShow()
    recall: Recall = Recall()
    desk: Desk = Desk()
    nightly: Nightly = Nightly()
    online: Online = Online()
    cds_hooks: CdsHooks = CdsHooks()
    spark: Spark = Spark()
    paths: Paths = Paths()
    database_url: str = ""

    @property
    def application_database(self) -> str:
        """URL of the application database."""
        return self.database_url or f"sqlite:///{(self.paths.data / 'revisit.db').as_posix()}"

    @property
    def zone(self) -> ZoneInfo:
        """The practice's time zone."""
        return ZoneInfo(self.practice.time_zone)


def load_settings(path: Path | None = None, environ: dict[str, str] | None = None) -> Settings:
    """Read ``practice.toml`` and the ``REVISIT_*`` variables.

    Parameters
    ----------
    path : Path, optional
        The settings file; by default ``$REVISIT_SETTINGS``, else
        ``practice.toml`` in the current directory, else built-in defaults.
    environ : dict of str to str, optional
        The environment; the process's own by default.

    Returns
    -------
    Settings
        With absolute paths.

    Raises
    ------
    SettingsError
        If the file is not TOML, or a name or value in it is not known.
    """
    env = dict(os.environ) if environ is None else environ
    chosen = path or (Path(env["REVISIT_SETTINGS"]) if "REVISIT_SETTINGS" in env else Path("practice.toml"))
    must_exist = path is not None or "REVISIT_SETTINGS" in env
    content = _read_toml(chosen, must_exist)
    paths = content.setdefault("paths", {})
    for name, variable in (("data", "REVISIT_DATA"), ("mlruns", "REVISIT_MLRUNS")):
        paths[name] = str(Path(env.get(variable, paths.get(name, name))).expanduser().absolute())
    if "REVISIT_DATABASE_URL" in env:
        content["database_url"] = env["REVISIT_DATABASE_URL"]
    if "REVISIT_ONLINE_URL" in env:
        content.setdefault("online", {})["url"] = env["REVISIT_ONLINE_URL"]
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"{chosen}: {problems}. practice.example.toml explains every setting.") from None


def _read_toml(path: Path, must_exist: bool) -> dict[str, Any]:
    if not path.is_file():
        if must_exist:
            raise SettingsError(f"{path} is not a file; copy practice.example.toml and adapt it.")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
