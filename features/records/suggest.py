"""Drafting a mapping from a file's header and values.

The draft holds names of columns and words that are known beforehand, never a
value that may be a patient's. What it is unsure of stands in it as comments.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.duck import connect
from features.records import aliases
from features.records.peek import Dates, Look, look_at, safe_name
from features.records.values import name_of, quoted, text_of
from features.records.visits import ONE_CLINIC

_DATED = ("booked", "starts", "either", "visited", "status_known_at", "birthday", "first_seen_on")
_CHINESE = ("\u4e00", "\u9fff")


@dataclass
class _Draft:
    """What has been found out, and the lines written so far."""

    look: Look
    columns: dict[str, str]
    dates: dict[str, Dates]
    doubts: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def take(self, role: str) -> str:
        """Name of the column with this role, noted as used; empty if there is none."""
        header = self.columns.get(role, "")
        if header:
            self.used.add(header)
            if aliases.is_weak(role, header):
                self.doubt(f"{header} was taken as {role}; its name only hints at it")
        return header

    def doubt(self, text: str) -> None:
        """Note what is unsure, once."""
        if text not in self.doubts:
            self.doubts.append(text)


def suggest_mapping(path: Path, time_zone: str = "") -> str:
    """Draft a mapping for a file.

    Parameters
    ----------
    path : Path
        A text file, workbook or Parquet file.
    time_zone : str
        Zone of the practice; by default Asia/Shanghai for Chinese headers, else UTC, and a doubt.

    Returns
    -------
    str
        TOML, with ``# unsure:`` and ``# missing:`` comments.

    Raises
    ------
    FileError
        If the file cannot be read, or names no known columns.
    """
    with tempfile.TemporaryDirectory(prefix="revisit-suggest-") as folder, connect(Path(folder)) as con:
        look = look_at(con, path, Path(folder))
        draft = _Draft(look, _roles(look), {})
        for role in _DATED:
            if role in draft.columns:
                found = look.dates(draft.columns[role])
                if found.unread * 2 > look.raw.rows:
                    del draft.columns[role]
                    continue
                draft.dates[draft.columns[role]] = found
        _settle_times(draft)
        status = _status(draft)
        body = _appointments(draft, status) if status else _register(draft) if _is_register(draft) else _visits(draft)
        return "\n".join([*_top(draft, path, time_zone), *body, *_rest(draft)]) + "\n"


def _roles(look: Look) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in look.raw.columns:
        for role in aliases.roles_of(header):
            if role not in found or aliases.rank(role, header) < aliases.rank(role, found[role]):
                found[role] = header
    patient = found.get("patient_id", "")
    # A bare "id" numbers the rows if it never repeats.
    if aliases.plain(patient) == "id" and look.distinct(patient) == look.raw.rows > 1:
        del found["patient_id"]
        found.setdefault("appointment_id", patient)
    return found


def _settle_times(draft: _Draft) -> None:
    """Decide what 预约时间 is: the time of the visit, unless another column gives that."""
    either = draft.columns.pop("either", "")
    if either and "starts" in draft.columns and "booked" not in draft.columns:
        draft.columns["booked"] = either
        draft.doubt(f"{either} was taken as the time when the booking was made, {draft.columns['starts']} as its start")
    elif either and "starts" not in draft.columns:
        draft.columns["starts"] = either
        draft.doubt(f"{either} was taken as the start of the appointment, not as the time when it was booked")


def _status(draft: _Draft) -> str:
    """The form of `status`, if a column tells what became of a booking."""
    for role, yes, no in (("no_show", "no_show", "completed"), ("attended", "completed", "no_show")):
        header = draft.columns.get(role, "")
        words = draft.look.words(header) if header else []
        meant = aliases.translation({yes: aliases.YES, no: aliases.NO}, words)
        if words and len(meant) == len(words) and ("starts" in draft.columns or "visited" in draft.columns):
            draft.used.add(header)
            draft.doubt(f"{header}: check which way round it is; the draft reads yes as {yes}")
            return _values(header, meant)
    header = draft.columns.get("status", "")
    words = draft.look.words(header) if header else []
    meant = aliases.translation(aliases.STATUSES, words)
    if not meant:
        return ""
    draft.used.add(header)
    if "cancelled_early" in meant.values():
        draft.doubt(f"{header}: cancellations count as early; less than 24 hours before the start is cancelled_late")
    _doubt_words(draft, header, [word for word in words if word not in meant])
    return _values(header, meant)


def _doubt_words(draft: _Draft, header: str, others: Sequence[str]) -> None:
    if not others:
        return
    shown = [word for word in others if _is_a_word(draft, header, word)]
    named = " (" + ", ".join(shown) + ")" if shown else ""
    draft.doubt(f"{header} holds {len(others)} more values{named}; add them to values, or their rows are set aside")


def _is_a_word(draft: _Draft, header: str, word: str) -> bool:
    """Whether a value is safe to show: short, without digits, frequent, of many patients, and nobody's name."""
    if len(word) > 12 or any(character.isdigit() for character in word):
        return False
    holds = f"{text_of(header)} = {quoted(word)}"
    patient = draft.columns.get("patient_id")
    people = 0
    if patient:
        select = f"SELECT count(DISTINCT {text_of(patient)}) FROM {draft.look.raw.name} WHERE {holds}"
        people = draft.look.con.execute(select).fetchall()[0][0]
    named = [draft.columns[role] for role in aliases.PERSONAL if role in draft.columns]
    is_name = any(draft.look.count(f"{text_of(column)} = {quoted(word)}") for column in named)
    return people >= 3 and not is_name


def _top(draft: _Draft, path: Path, time_zone: str) -> list[str]:
    zone = time_zone
    if not zone:
        is_chinese = any(_CHINESE[0] <= letter <= _CHINESE[1] for name in draft.columns.values() for letter in name)
        zone = "Asia/Shanghai" if is_chinese else "Etc/UTC"
        draft.doubt(f"time_zone: no file says it; {zone} is a guess. Set the zone of the practice")
    lines = [
        f"# Drafted by: revisit mapping suggest {path.name if safe_name(path.stem) else '...'}",
        "# Read every line marked unsure or missing before importing.",
        "",
        f"name = {_toml(path.stem if safe_name(path.stem) else 'draft')}",
        f"time_zone = {_toml(zone)}",
    ]
    lines += [f"{name} = {_toml(value)}" for name, value in draft.look.settings.items()]
    formats: list[str] = []
    for column, dates in draft.dates.items():
        formats += [form for form in dates.formats if form not in formats]
        if dates.other_order:
            draft.doubt(f"{column}: every value fits {dates.formats[0]} and {dates.other_order}; say which it is")
        if dates.unread:
            draft.doubt(f"{column}: {dates.unread:,} values are no dates that the draft can read")
        if dates.ends_in_z and not dates.has_clock:
            formats.append("%Y-%m-%dT%H:%M:%SZ")
            draft.doubt(
                f"{column}: the times end in Z (UTC), yet all are at midnight; they are read as local. "
                "Remove the format with Z if they are UTC"
            )
    if formats:
        listed = ", ".join(_toml(form) for form in dict.fromkeys(formats))
        lines += [f"datetime_formats = [{listed}]", f"date_formats = [{listed}]"]
    return lines


def _appointments(draft: _Draft, status: str) -> list[str]:
    look = draft.look
    starts = draft.take("starts") or draft.take("visited")
    booked = draft.take("booked")
    patient, number = draft.take("patient_id"), draft.take("appointment_id")
    lines = ["", "[tables.appointments.columns]"]
    if number:
        lines.append(f"appointment_id = {_toml(number)}")
        if look.distinct(number) < look.raw.rows:
            draft.doubt(f"{number} repeats in the file; a later row replaces an earlier one of the same number")
    elif patient and starts:
        parts = f"concat_ws('|', {name_of(patient)}, {name_of(starts)})"
        lines.append(f"appointment_id = {{ sql = {_toml(parts)} }}")
        draft.doubt("appointment_id: the file numbers no bookings; patient and start stand for it")
    else:
        lines.append('# missing: appointment_id = "..."')
    lines += [_required("patient_id", patient), _clinic(draft)]
    lines += _booking_times(draft, booked, starts)
    lines.append(f"status = {status}")
    known = draft.take("status_known_at")
    if known:
        lines.append(f"status_known_at = {_toml(known)}")
    lines += _plain(draft, ("clinician_id", "service_line", "duration_minutes"))
    if amount := draft.take("amount"):
        lines.append(f'fee_cents = {{ column = {_toml(amount)}, unit = "{_unit(amount)}" }}')
        draft.doubt(f"fee_cents: {amount} is taken to be in the {_unit(amount)} unit of the currency")
    return [*_people(draft, patient, booked or starts, starts or booked), *lines]


def _people(draft: _Draft, patient: str, known_from: str, at: str) -> list[str]:
    """Tables of patients and of their names; ages are as of the column `at`."""
    keys = [_required("patient_id", patient), *([f"known_from_at = {_toml(known_from)}"] if known_from else [])]
    people = ["", "[tables.patients.columns]", *keys, *_person(draft, at)]
    contact = _plain(draft, ("full_name", "phone", "email"))
    return [*people, "", "[tables.contact_details.columns]", *keys, *contact] if contact else people


def _is_register(draft: _Draft) -> bool:
    """Whether the file lists patients: no day of a visit, and hardly a patient twice (some systems keep old rows)."""
    patient = draft.columns.get("patient_id", "")
    has_visits = bool({"starts", "visited", "amount"} & draft.columns.keys())
    return not has_visits and (not patient or draft.look.distinct(patient) > 0.8 * draft.look.raw.rows)


def _register(draft: _Draft) -> list[str]:
    draft.doubt("no column tells of a visit: every row was taken as one patient of a list")
    registered = draft.take("booked")
    return _people(draft, draft.take("patient_id"), registered, registered)


def _booking_times(draft: _Draft, booked: str, starts: str) -> list[str]:
    if not starts:
        return ['# missing: booked_at = "..."', '# missing: starts_at = "..."']
    is_day = not draft.dates[starts].has_clock
    clock = ['is_start_time_known = { value = "false" }'] if is_day else []
    if not booked:
        draft.doubt("booked_at: the file does not say when bookings were made; they count as made when they start")
        return [f"booked_at = {_toml(starts)}", f"starts_at = {_toml(starts)}", *clock]
    start = _toml(starts)
    if is_day and draft.dates[booked].has_clock:
        held, made = _moment(draft, starts), _moment(draft, booked)
        same = f"CASE WHEN CAST({held} AS DATE) = CAST({made} AS DATE) THEN {made} ELSE {held} END"
        start = f"{{ sql = {_toml(same)} }}"
        draft.doubt(f"starts_at: {starts} gives the day alone; bookings for the same day start when they are made")
    return [f"booked_at = {_toml(booked)}", f"starts_at = {start}", *clock]


def _moment(draft: _Draft, column: str) -> str:
    """SQL of the column's local time; a Z is passed over, as the formats do."""
    dates = draft.dates[column]
    if dates.formats:
        return f"try_strptime({name_of(column)}, [{', '.join(quoted(form) for form in dates.formats)}])"
    return f"TRY_CAST(rtrim({name_of(column)}, 'Z') AS TIMESTAMP)"


def _visits(draft: _Draft) -> list[str]:
    look = draft.look
    day = draft.take("visited") or draft.take("starts") or draft.take("booked")
    patient, amount = draft.take("patient_id"), draft.take("amount")
    draft.doubt("no column tells what became of a booking: every row counts as a visit that took place")
    lines = ["", "[visits]", _required("patient_id", patient), _required("date", day)]
    if amount:
        lines.append(f"amount = {_toml(amount)}")
        lines += ['unit = "minor"'] if _unit(amount) == "minor" else []
        draft.doubt(f"amount: {amount} is taken to be in the {_unit(amount)} unit of the currency")
    kind, receipt = draft.columns.get("entry_kind", ""), draft.columns.get("receipt", "")
    no_visits = [word for word in look.words(kind) if aliases.plain(word) in aliases.NOT_VISITS] if kind else []
    if no_visits:
        draft.take("entry_kind")
        listed = ", ".join(quoted(word) for word in no_visits)
        lines.append(f"where = {_toml(f'{name_of(kind)} IS NULL OR trim({name_of(kind)}) NOT IN ({listed})')}")
        draft.doubt(f"where: rows whose {kind} is {', '.join(no_visits)} are payments without a visit")
    repeated = look.raw.rows - look.distinct(patient, day) if patient and day else 0
    if receipt or no_visits:
        lines.append('same_day = "one"')
        draft.doubt("same_day: receipts of one patient and day are one visit; remove the line if they are several")
    elif repeated > 0:
        draft.doubt(
            f'same_day: {repeated:,} rows repeat a patient and day; each is a visit, same_day = "one" merges them'
        )
    if draft.columns.get("clinic_id"):
        lines.append(_clinic(draft))
    lines += _plain(draft, ("clinician_id", "service_line", "full_name", "phone", "email"))
    return [*lines, *_person(draft, day)]


def _person(draft: _Draft, at: str) -> list[str]:
    lines = []
    if sex := draft.take("sex"):
        words = draft.look.words(sex)
        meant = aliases.translation(aliases.SEXES, words)
        if not meant and (meant := aliases.translation(aliases.CODED_SEXES, words)):
            draft.doubt(f"sex: 1 and 2 in {sex} are read as male and female")
        _doubt_words(draft, sex, [word for word in words if word not in meant])
        lines.append(f"sex = {_values(sex, meant)}")
    if birthday := draft.take("birthday"):
        lines.append(f"birth_year = {{ sql = {_toml(f'year({_moment(draft, birthday)})')} }}")
    elif year := draft.take("birth_year"):
        lines.append(f"birth_year = {_toml(year)}")
    elif at and (age := draft.take("age")):
        lines.append(f"birth_year = {{ age = {_toml(age)}, at = {_toml(at)} }}")
    lines += _plain(draft, ("source_channel", "membership", "tags", "first_seen_on"))
    referrer, patient = draft.columns.get("referred_by_id", ""), draft.columns.get("patient_id", "")
    if referrer and patient:
        known = f"SELECT {text_of(patient)} FROM {draft.look.raw.name}"
        strangers = draft.look.count(f"{text_of(referrer)} NOT IN ({known} WHERE {text_of(patient)} IS NOT NULL)")
        if strangers:
            draft.doubt(
                f"{referrer} holds names or numbers that are no patient's; left out (names stay out of patients)"
            )
        else:
            lines += _plain(draft, ("referred_by_id",))
    return lines


def _rest(draft: _Draft) -> list[str]:
    """What is unsure and what was left out, below the mapping."""
    left = [name for name in draft.look.raw.columns if name not in draft.used and safe_name(name)]
    lines = ["", *(f"# unsure: {text.rstrip('.')}." for text in draft.doubts)]
    if left:
        lines += ["", f"# Not used: {', '.join(name.replace(chr(10), ' ') for name in left)}."]
    return lines


def _clinic(draft: _Draft) -> str:
    if clinic := draft.take("clinic_id"):
        return f"clinic_id = {_toml(clinic)}"
    draft.doubt(f"clinic_id: the file names no clinic; all rows go to one, called {ONE_CLINIC!r}")
    return f"clinic_id = {{ value = {_toml(ONE_CLINIC)} }}"


def _required(name: str, column: str) -> str:
    return f"{name} = {_toml(column)}" if column else f'# missing: {name} = "..."'


def _plain(draft: _Draft, roles: Sequence[str]) -> list[str]:
    return [f"{role} = {_toml(header)}" for role in roles if (header := draft.take(role))]


def _values(column: str, meant: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{_toml(word)} = {_toml(meaning)}" for word, meaning in meant.items())
    return f"{{ column = {_toml(column)}, values = {{ {pairs} }} }}"


def _unit(column: str) -> str:
    return "minor" if column.endswith("分") or "cents" in column.casefold() else "major"


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
