"""What one part of a simulated practice looks like in Open Dental's tables."""

from __future__ import annotations

from collections import defaultdict
from datetime import date

import pandas as pd

from features.simulator.export_fhir import Row, latest, rows_of
from features.simulator.frames_care import CODES
from features.simulator.practice import SimulatedPractice

_COMM_TYPES, _COMM_OTHER, _RECALL_STATUS = {"recall": 1, "reminder": 2}, 3, 4  # numbers of definitions
_DEFINITIONS = (
    {"DefNum": 1, "Category": 27, "ItemName": "Recall", "ItemValue": "RECALL"},
    {"DefNum": 2, "Category": 27, "ItemName": "Appointment Reminder", "ItemValue": "APPT"},
    {"DefNum": 3, "Category": 27, "ItemName": "Misc", "ItemValue": ""},
    {"DefNum": 4, "Category": 13, "ItemName": "opted out", "ItemValue": ""},
)
_MISSED, _CANCELLED = "D9986", "D9987"
_CODE_NUMBERS = {code: n for n, code in enumerate((*CODES.values(), _MISSED, _CANCELLED), start=1)}
# AptStatus, and what histappointment calls the change: 1 changed, 2 missed, 3 cancelled.
_STATUS = {
    "booked": (1, 1),
    "arrived": (1, 1),
    "completed": (2, 1),
    "no_show": (5, 2),
    "cancelled_late": (5, 3),
    "cancelled_early": (5, 3),
    "rescheduled": (5, 3),  # Open Dental moves a booking instead; a second one leaves the first broken
}
_MODES = {"email": 1, "letter": 2, "phone": 3, "sms": 5, "wechat": 5}
_MONTH = 30.4375  # days, as the importer reads them
_EMPTY_DAY = "0001-01-01"
_EMPTY_MOMENT = "0001-01-01 00:00:00"


class Numbers:
    """Numbers from 1 on for every kind of thing, through all parts of a practice."""

    def __init__(self) -> None:
        self._last: dict[str, int] = defaultdict(int)
        self._fresh: list[tuple[str, str, str]] = []

    def next(self, kind: str) -> int:
        """Return the next number of a kind."""
        self._last[kind] += 1
        return self._last[kind]

    def of(self, kind: str, ids: list[str], counted_as: str = "") -> dict[str, int]:
        """Number things that are told apart by their id."""
        found = {one: self.next(counted_as or kind) for one in dict.fromkeys(ids)}
        for one, number in found.items():
            self.note(kind, one, str(number))
        return found

    def note(self, kind: str, one: str, key: str) -> None:
        """Keep under which key an import stores a thing."""
        self._fresh.append((kind, one, key))

    def taken(self) -> pd.DataFrame:
        """Return what was numbered since the last call: one row per thing."""
        frame = pd.DataFrame(self._fresh, columns=["table_name", "id", "open_dental_key"])
        self._fresh = []
        return frame


class PartRows:
    """One part of a practice as rows of Open Dental's tables."""

    def __init__(self, practice: SimulatedPractice, numbers: Numbers) -> None:
        zone = practice.plan.time_zone
        self._rows: dict[str, list[Row]] = defaultdict(list)
        self._tables = {name: list(rows_of(frame, zone)) for name, frame in practice.tables.items()}
        self._numbers = numbers
        self._clinics = self._number("clinics", "clinic_id")
        self._clinicians = self._number("clinicians", "clinician_id")
        self._patients = self._number("patients", "patient_id")
        self._bookings = self._number("appointments", "appointment_id")
        items = [row["plan_item_id"] for row in self._tables["plan_items"]]
        self._items = numbers.of("plan_items", items, counted_as="procedures")
        self._charges = {row["appointment_id"]: row for row in self._tables["payments"] if row["kind"] == "charge"}
        self._procedure_of: dict[str, int] = {}  # the procedure that a booking is for

    def made(self, is_first: bool) -> dict[str, list[Row]]:
        """Return the rows by table, those that are the same for every part with the first alone."""
        if is_first:
            self._rows["definition"] += [dict(row) for row in _DEFINITIONS]
            self._rows["procedurecode"] += [{"CodeNum": n, "ProcCode": code} for code, n in _CODE_NUMBERS.items()]
            self._rows["recalltype"].append({"RecallTypeNum": 1, "Description": "check_up", "DefaultInterval": 6 << 16})
        self._fill_staff()
        self._fill_people()
        self._fill_bookings()
        self._fill_plans()
        self._fill_visit_procedures()
        self._fill_messages()
        self._fill_recalls()
        self._fill_money()
        return self._rows

    def _number(self, table: str, key: str) -> dict[str, int]:
        return self._numbers.of(table, [row[key] for row in self._tables[table]])

    def _fill_staff(self) -> None:
        for row in latest(self._tables["clinics"], "clinic_id"):
            self._rows["clinic"].append(
                {
                    "ClinicNum": self._clinics[row["clinic_id"]],
                    "Description": row["clinic_name"],
                    "City": row["region"] or "",
                }
            )
        for row in latest(self._tables["clinicians"], "clinician_id"):
            self._rows["provider"].append(
                {
                    "ProvNum": self._clinicians[row["clinician_id"]],
                    "Abbr": row["display_name"],
                    "IsSecondary": int(row["role"] == "hygienist"),
                    "DateTerm": row["left_on"] or _EMPTY_DAY,
                }
            )

    def _fill_people(self) -> None:
        contacts = {row["patient_id"]: row for row in latest(self._tables["contact_details"], "patient_id")}
        entered: dict[str, pd.Timestamp] = {}
        for row in self._tables["patients"]:
            at = row["known_from_at"]
            entered[row["patient_id"]] = min(at, entered.get(row["patient_id"], at))
        guarantors: dict[str, int] = {}
        for row in latest(self._tables["patients"], "patient_id"):
            number = self._patients[row["patient_id"]]
            contact = contacts.get(row["patient_id"], {})
            given, _, family = (contact.get("full_name") or "").rpartition(" ")
            is_gone, died = row["departure"] is not None, row["departure"] == "deceased"
            self._rows["patient"].append(
                {
                    "PatNum": number,
                    "FName": given,
                    "LName": family,
                    "WirelessPhone": contact.get("phone") or "",
                    "Email": contact.get("email") or "",
                    "Guarantor": guarantors.setdefault(row["household_id"], number) if row["household_id"] else number,
                    "ClinicNum": self._clinics[row["home_clinic_id"]],
                    "Gender": {"male": 0, "female": 1, "other": 3}.get(row["sex"] or "", 2),
                    "Birthdate": _EMPTY_DAY if row["birth_year"] is None else date(int(row["birth_year"]), 1, 1),
                    "PatStatus": 5 if died else 2 if is_gone else 0,
                    "DateTimeDeceased": row["departed_on"] if died and row["departed_on"] else _EMPTY_MOMENT,
                    "TxtMsgOk": {True: 1, False: 2}.get(row["is_sms_allowed"], 0),
                    "PreferContactMethod": int(row["is_phone_allowed"] is False),
                    "DateFirstVisit": row["first_seen_on"] or _EMPTY_DAY,
                    "SecDateEntry": entered[row["patient_id"]].date(),
                    "DateTStamp": _local(row["known_from_at"]),
                }
            )
            self._refer(row, number)

    def _refer(self, row: Row, number: int) -> None:
        """Say who or what brought the patient."""
        if row["source_channel"] is None:
            return
        by = self._patients.get(row["referred_by_id"] or "", 0)
        referral = self._numbers.next("referral")
        name = "" if by else row["source_channel"]
        self._rows["referral"].append({"ReferralNum": referral, "PatNum": by, "LName": name, "NotPerson": int(not by)})
        attached = {"RefAttachNum": referral, "ReferralNum": referral, "PatNum": number, "RefType": 1}
        self._rows["refattach"].append(attached)

    def _fill_bookings(self) -> None:
        for row in self._tables["appointments"]:
            number, status = self._bookings[row["appointment_id"]], row["status"]
            code, action = _STATUS[status]
            known = row["status_known_at"]
            provider = self._clinicians.get(row["clinician_id"] or "", 0)
            is_hygiene = row["service_line"] == "hygiene"
            now = {
                "AptNum": number,
                "PatNum": self._patients[row["patient_id"]],
                "AptStatus": code,
                "Pattern": "X" * round(row["duration_minutes"] / 5),
                "ProvNum": provider,
                "ProvHyg": provider if is_hygiene else 0,
                "IsHygiene": int(is_hygiene),
                "ClinicNum": self._clinics[row["clinic_id"]],
                "AptDateTime": _local(row["starts_at"]),
                "DateTimeArrived": _local(known) if status == "arrived" else _EMPTY_MOMENT,
                "SecDateTEntry": _local(row["booked_at"]),
                "DateTStamp": _local(row["booked_at"] if known is None else known),
            }
            self._rows["appointment"].append(now)
            made = now | {"AptStatus": 1, "DateTimeArrived": _EMPTY_MOMENT}
            self._state(made, 0, row["booked_at"])
            if known is not None:
                self._state(now, action, known)
            told = {"no_show": _MISSED, "cancelled_late": _CANCELLED}.get(status)
            if told:
                self._procedure(row, told, 2, 0.0, 0.0, row["starts_at"])

    def _state(self, booking: Row, action: int, at: pd.Timestamp) -> None:
        number = {"HistApptNum": self._numbers.next("histappointment"), "HistApptAction": action}
        self._rows["histappointment"].append(booking | number | {"HistDateTStamp": _local(at)})

    def _fill_plans(self) -> None:
        plans = self._numbers.of("plans", [row["plan_id"] for row in self._tables["plan_items"]])
        signed: set[str] = set()
        for row in self._tables["plan_items"]:
            plan, number = plans[row["plan_id"]], self._items[row["plan_item_id"]]
            shared = {"PatNum": self._patients[row["patient_id"]], "ClinicNum": self._clinics[row["clinic_id"]]}
            if row["plan_id"] not in signed:
                signed.add(row["plan_id"])
                self._rows["treatplan"].append(
                    {
                        "TreatPlanNum": plan,
                        "PatNum": shared["PatNum"],
                        "DateTP": row["proposed_at"].date(),
                        "DateTSigned": _local(row["accepted_at"]),
                    }
                )
            self._rows["proctp"].append(
                shared
                | {
                    "ProcTPNum": number,
                    "TreatPlanNum": plan,
                    "ProcNumOrig": number,
                    "ProcCode": row["procedure_code"],
                    "FeeAmt": row["fee_cents"] / 100,
                    "DateTP": row["proposed_at"].date(),
                }
            )
            self._plan_procedure(row, number)

    def _plan_procedure(self, row: Row, number: int) -> None:
        done, dropped, booking = row["completed_at"], row["declined_at"], row["appointment_id"]
        charge = self._charges.get(booking or "") if done is not None else None
        steps = (done, dropped, row["scheduled_at"], row["accepted_at"], row["proposed_at"])
        self._rows["procedurelog"].append(
            {
                "ProcNum": number,
                "PatNum": self._patients[row["patient_id"]],
                "AptNum": self._bookings.get(booking or "", 0),
                "CodeNum": _CODE_NUMBERS[row["procedure_code"]],
                "ProcStatus": 2 if done is not None else 5 if dropped is not None else 1,
                "ProcFee": (charge["list_cents"] if charge else row["fee_cents"]) / 100,
                "Discount": charge["discount_cents"] / 100 if charge else 0.0,
                "ProvNum": self._clinicians.get(row["clinician_id"] or "", 0),
                "ClinicNum": self._clinics[row["clinic_id"]],
                "ProcDate": _EMPTY_DAY if done is None else done.date(),
                "DateComplete": _EMPTY_DAY if done is None else done.date(),
                "DateTP": row["proposed_at"].date(),
                "SecDateEntry": _local(row["proposed_at"]),
                "DateTStamp": _local(next(step for step in steps if step is not None)),
            }
        )
        if booking:
            self._procedure_of[booking] = number

    def _fill_visit_procedures(self) -> None:
        """Give every booking that is not for a plan's item the procedure that it is for."""
        for row in self._tables["appointments"]:
            if row["appointment_id"] in self._procedure_of:
                continue
            charge = self._charges.get(row["appointment_id"])
            fee, discount = (charge["list_cents"] / 100, charge["discount_cents"] / 100) if charge else (0.0, 0.0)
            is_done = row["status"] == "completed"
            code = CODES[row["service_line"]]
            number = self._procedure(row, code, 2 if is_done else 1, fee, discount, row["booked_at"])
            self._procedure_of[row["appointment_id"]] = number

    def _procedure(
        self, booking: Row, code: str, status: int, fee: float, discount: float, entered: pd.Timestamp
    ) -> int:
        number = self._numbers.next("procedures")
        self._rows["procedurelog"].append(
            {
                "ProcNum": number,
                "PatNum": self._patients[booking["patient_id"]],
                "AptNum": self._bookings[booking["appointment_id"]],
                "CodeNum": _CODE_NUMBERS[code],
                "ProcStatus": status,
                "ProcFee": fee,
                "Discount": discount,
                "ProvNum": self._clinicians.get(booking["clinician_id"] or "", 0),
                "ClinicNum": self._clinics[booking["clinic_id"]],
                "ProcDate": booking["starts_at"].date(),
                "DateComplete": booking["status_known_at"].date() if status == 2 else _EMPTY_DAY,
                "DateTP": _EMPTY_DAY,
                "SecDateEntry": _local(entered),
                "DateTStamp": _local(entered),
            }
        )
        return number

    def _fill_messages(self) -> None:
        messages = self._number("communications", "communication_id")
        for row in self._tables["communications"]:
            self._rows["commlog"].append(
                {
                    "CommlogNum": messages[row["communication_id"]],
                    "PatNum": self._patients[row["patient_id"]],
                    "CommType": _COMM_TYPES.get(row["purpose"], _COMM_OTHER),
                    "Mode_": _MODES[row["channel"]],
                    "SentOrReceived": 1 if row["direction"] == "out" else 2,
                    "CommDateTime": _local(row["sent_at"]),
                }
            )

    def _fill_recalls(self) -> None:
        recalls = self._number("recalls", "recall_id")
        for row in latest(self._tables["recalls"], "recall_id"):
            self._rows["recall"].append(
                {
                    "RecallNum": recalls[row["recall_id"]],
                    "PatNum": self._patients[row["patient_id"]],
                    "RecallTypeNum": 1,
                    "RecallInterval": _interval(row["interval_days"]),
                    "RecallStatus": _RECALL_STATUS if row["disabled_reason"] else 0,
                    "IsDisabled": int(bool(row["is_disabled"])),
                    "DateDue": row["due_on"] or _EMPTY_DAY,
                    "DateTStamp": _local(row["known_from_at"]),
                }
            )

    def _fill_money(self) -> None:
        """Write what was paid or paid back; charges are the completed procedures."""
        for row in self._tables["payments"]:
            procedure = self._procedure_of[row["appointment_id"]]
            if row["kind"] == "charge":
                self._numbers.note("payments", row["payment_id"], f"charge-{procedure}")
                continue
            number = self._numbers.next("payments")
            self._numbers.note("payments", row["payment_id"], str(number))
            self._rows["paysplit"].append(
                {
                    "SplitNum": number,
                    "PatNum": self._patients[row["patient_id"]],
                    "ClinicNum": self._clinics[row["clinic_id"]],
                    "ProcNum": procedure,
                    "SplitAmt": row["amount_cents"] / 100,
                    "DatePay": row["paid_at"].date(),
                }
            )


def _local(moment: pd.Timestamp | None) -> str:
    """Wall clock as Open Dental stores it."""
    return _EMPTY_MOMENT if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _interval(days: float | None) -> int:
    """Days as Open Dental packs them: whole months where they are that, else weeks and days."""
    whole = int(days or 0)
    months = round(whole / _MONTH)
    return months << 16 if round(months * _MONTH) == whole else (whole // 7) << 8 | whole % 7
