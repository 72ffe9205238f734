"""Flags in words: what the schedule, the patient's page and the API say beside a patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from babel import Locale
from babel.numbers import format_currency, get_currency_symbol, get_territory_currencies

from serving.decisions import DAYS_PER_WEEK, Flag
from serving.i18n import Language
from serving.names import _
from serving.patients import LAPSE, PatientScore, Standing

FLAG_LABELS: Mapping[Flag, str] = {
    "no_show": _("No-show risk"),
    "lapse": _("At risk of lapsing"),
    "overdue": _("Recall overdue"),
    "treatment": _("Open treatment"),
    "unanswered": _("Unanswered contacts"),
    "family": _("Family due"),
}
SCORED_BY: Mapping[str, str] = {
    "model": _("model version %(version)s"),
    "rule": _("rule in use: weeks past due"),
    "seed_rule": _("rule in use: unanswered contacts, missed recalls"),
}


@dataclass(frozen=True)
class FlagView:
    """One flag of one patient, in words."""

    code: Flag
    text: str


def flag_views(
    flags: Iterable[Flag], standing: Standing | None, say: Language, money: str | None
) -> tuple[FlagView, ...]:
    """Say flags with the patient's own numbers; the booking's own risk is shown elsewhere.

    Parameters
    ----------
    flags : iterable of str
        As `serving.decisions.flags_of` names them.
    standing : Standing or None
        Of the patient.
    say : Language
        To say it in.
    money : str or None
        ISO country whose currency open treatment is valued in; None where amounts are not to be seen.
    """
    if standing is None:
        return ()
    patient = standing.patient
    said: dict[Flag, str] = {}
    for flag in flags:
        if flag == "lapse":
            said[flag] = _lapse(standing.scores[LAPSE], say)
        elif flag == "overdue":
            weeks = (patient.days_overdue or 0) // DAYS_PER_WEEK
            said[flag] = say.count("Overdue %(n)d week", "Overdue %(n)d weeks", weeks) % {"n": weeks}
        elif flag == "treatment":
            items = patient.open_items
            said[flag] = say.count("%(n)d item open", "%(n)d items open", items) % {"n": items}
            if money and patient.open_cents:
                said[flag] += f" · {amount(patient.open_cents, money, say)}"
        elif flag == "unanswered":
            said[flag] = say.text("%(n)d unanswered") % {"n": patient.unanswered}
        elif flag == "family":
            due = patient.family_due
            said[flag] = say.count("%(n)d of the family due", "%(n)d of the family due", due) % {"n": due}
    return tuple(FlagView(code, text) for code, text in said.items())


def scored_by(score: PatientScore, say: Language) -> str:
    """Name what made a score: the model's version, or the rule in use."""
    return say.text(SCORED_BY[score.kind]) % {"version": score.model_version}


def amount(cents: int, country: str, say: Language) -> str:
    """Write an amount in whole units of the country's currency."""
    symbol, currency = _currency(country)
    return str(format_currency(cents / 100, currency, f"'{symbol}'#,##0", locale=say.locale, currency_digits=False))


@cache
def _currency(country: str) -> tuple[str, str]:
    currency = get_territory_currencies(country)[0]
    return get_currency_symbol(currency, locale=Locale.parse(f"und_{country}")), currency


def _lapse(score: PatientScore, say: Language) -> str:
    if score.probability is None:
        return say.text("At risk (rule)")
    return say.text("At risk %(chance)s") % {"chance": f"{score.probability:.0%}"}
