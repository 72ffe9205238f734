"""Languages: gettext catalogs compiled in memory, and dates as each language writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_datetime, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

_CATALOG = "locale/{}/LC_MESSAGES/messages.po"
# What a language calls itself, in the order of the switch.
LANGUAGES: Mapping[str, str] = MappingProxyType({"en": "English", "zh": "中文"})
_DAY = {"en": "EEEE, d MMMM", "zh": "M月d日 EEEE"}
_FULL_DAY = {"en": "d MMM y", "zh": "y年M月d日"}
_FULL_MOMENT = {"en": "d MMM y, HH:mm", "zh": "y年M月d日 HH:mm"}
_SHORT_DAY = {"en": "d MMM", "zh": "M月d日"}
_MOMENT = {"en": "d MMM, HH:mm", "zh": "M月d日 HH:mm"}
_SHORT_MONTH = {"en": "MMM", "zh": "M月"}
_MONTH = {"en": "MMM y", "zh": "y年M月"}


@dataclass(frozen=True)
class Language:
    """One language of the pages.

    Attributes
    ----------
    code : str
        ``en`` or ``zh``.
    locale : Locale
        Babel's object; passing the name instead doubles the time of a page.
    catalog : NullTranslations
        Its sentences; English is what stands in the code.
    """

    code: str
    locale: Locale
    catalog: NullTranslations

    def text(self, message: str) -> str:
        """Say a fixed sentence."""
        return str(self.catalog.ugettext(message))

    def count(self, one: str, many: str, number: int) -> str:
        """Say a sentence about a number of things."""
        return str(self.catalog.ungettext(one, many, number))

    def day(self, value: date) -> str:
        """Write a day with its weekday."""
        return str(format_date(value, _DAY[self.code], locale=self.locale))

    def short_day(self, value: date) -> str:
        """Write a day without its year."""
        return str(format_date(value, _SHORT_DAY[self.code], locale=self.locale))

    def short_month(self, value: date) -> str:
        """Write a month without its year."""
        return str(format_date(value, _SHORT_MONTH[self.code], locale=self.locale))

    def month(self, value: date) -> str:
        """Write a month with its year."""
        return str(format_date(value, _MONTH[self.code], locale=self.locale))

    def weekday(self, number: int) -> str:
        """Name a weekday, 0 being Monday."""
        return str(self.locale.days["format"]["wide"][number % 7])

    def clock_time(self, value: datetime, zone: ZoneInfo) -> str:
        """Write a time of day."""
        return str(format_time(value, "HH:mm", tzinfo=zone, locale=self.locale))

    def moment(self, value: datetime, zone: ZoneInfo) -> str:
        """Write a day and a time."""
        return str(format_datetime(value, _MOMENT[self.code], tzinfo=zone, locale=self.locale))

    def full_moment(self, value: datetime, zone: ZoneInfo) -> str:
        """Write a day of a year and a time."""
        return str(format_datetime(value, _FULL_MOMENT[self.code], tzinfo=zone, locale=self.locale))

    def full_day(self, value: date) -> str:
        """Write a day of a year."""
        return str(format_date(value, _FULL_DAY[self.code], locale=self.locale))


@cache
def language(code: str) -> Language:
    """Return a language, its catalog compiled on first use.

    Parameters
    ----------
    code : str
        Key of `LANGUAGES`.
    """
    path = Path(__file__).parent / _CATALOG.format(code)
    if not path.is_file():
        return Language(code, Locale.parse(code), NullTranslations())
    compiled = BytesIO()
    with path.open("rb") as source:
        write_mo(compiled, read_po(source, locale=code))
    compiled.seek(0)
    return Language(code, Locale.parse(code), Translations(compiled))
