"""The pages: one module and one template of the same name each.

A page module holds a ``router`` and a frozen dataclass derived from
`serving.render.PageContext`; partial templates start with ``_``. Each endpoint
declares what it needs (`serving.permissions.needs`); one that does not is
refused. A page that belongs into the navigation also has ``PATH``, ``LABEL``
and ``PERMISSION``, and is named in `IN_NAVIGATION`.
"""

from __future__ import annotations

from serving.pages import error, forecast, patient, patients, recall, schedule, sign_in

PAGES = (schedule, patients, patient, recall, forecast, sign_in, error)
ROUTERS = tuple(page.router for page in (schedule, patients, patient, recall, forecast, sign_in))
IN_NAVIGATION = (schedule, patients, recall, forecast)
NAVIGATION = {page.PATH: (page.LABEL, page.PERMISSION) for page in IN_NAVIGATION}
