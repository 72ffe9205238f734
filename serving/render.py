"""Templates: one Jinja environment per language, one template per page dataclass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from serving.auth import SignedIn
from serving.i18n import LANGUAGES, Language, language
from serving.names import ROLE_LABELS
from serving.web import language_of, signed_in, web_of

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Link:
    """A link of the navigation or the language switch."""

    label: str
    href: str
    is_current: bool


@dataclass(frozen=True)
class Shell:
    """What surrounds every page.

    Attributes
    ----------
    language : str
        Code for the ``lang`` attribute.
    practice : str
        The practice's name.
    links, languages : tuple of Link
        Navigation and language switch.
    signed_in : SignedIn or None
        Whose page it is.
    role : str
        Their role, in words.
    fingerprint : str
        Changes with any template, catalog or style sheet.
    """

    language: str
    practice: str
    links: tuple[Link, ...]
    languages: tuple[Link, ...]
    signed_in: SignedIn | None
    role: str
    fingerprint: str


@dataclass(frozen=True)
class PageContext:
    """Base of every page: a frozen dataclass whose fields are all the template gets."""

    shell: Shell


class Renderer:
    """Renders pages and partials in each language.

    Parameters
    ----------
    navigation : mapping of str to (str, str)
        Label (a msgid) and needed permission by path, in order.
    """

    def __init__(self, navigation: Mapping[str, tuple[str, str]]) -> None:
        self.navigation = dict(navigation)
        self.fingerprint = _fingerprint()
        self._environments = {code: _environment(language(code)) for code in LANGUAGES}

    def page(self, context: PageContext) -> str:
        """Render the template named like the context's module."""
        name = type(context).__module__.rpartition(".")[2]
        return self.partial(context.shell.language, f"{name}.html", context_values(context))

    def partial(self, code: str, template: str, values: Mapping[str, Any]) -> str:
        """Render one template in the language with that code."""
        return self._environments[code].get_template(template).render(values)

    def shell(self, request: Request) -> Shell:
        """Describe what surrounds the page that this request asks for."""
        who, say = signed_in(request), language_of(request)
        here = request.url.path
        back = quote(f"{here}?{request.url.query}" if request.url.query else here, safe="")
        links = [(path, label) for path, (label, permission) in self.navigation.items() if who and who.may(permission)]
        return Shell(
            language=say.code,
            practice=web_of(request).settings.practice.name,
            links=tuple(Link(say.text(label), path, path == here) for path, label in links),
            languages=tuple(
                Link(name, f"/language/{code}?next={back}", code == say.code) for code, name in LANGUAGES.items()
            ),
            signed_in=who,
            role=say.text(ROLE_LABELS[who.role]) if who else "",
            fingerprint=self.fingerprint,
        )


def context_values(context: PageContext) -> dict[str, Any]:
    """Return a page's fields as its template sees them."""
    return {field.name: getattr(context, field.name) for field in fields(context)}


def respond(request: Request, context: PageContext, status: int = 200) -> HTMLResponse:
    """Answer with a page."""
    return HTMLResponse(web_of(request).renderer.page(context), status_code=status)


def _environment(say: Language) -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.install_gettext_translations(say.catalog, newstyle=True)  # type: ignore[attr-defined]
    return made


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for folder in ("templates", "static", "locale"):
        for path in sorted((_HERE / folder).rglob("*.*")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
