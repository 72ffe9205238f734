"""The pages: one module and one template of the same name each.

A page module holds a ``router`` and a frozen dataclass derived from
`serving.render.PageContext`; partial templates start with ``_``. A page that
belongs into the navigation also has ``PATH`` and ``LABEL``.
"""

from __future__ import annotations

from serving.pages import error, schedule, sign_in

PAGES = (schedule, sign_in, error)
ROUTERS = tuple(page.router for page in (schedule, sign_in))
NAVIGATION = {page.PATH: page.LABEL for page in (schedule,)}
