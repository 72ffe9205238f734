"""Reports as one HTML file each: no script, no request to anywhere."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render_report(template: str, **values: object) -> str:
    """Render a report's template, which must be given every name it uses.

    Parameters
    ----------
    template : str
        File in ``templates/``.
    **values : object
        What it shows.

    Returns
    -------
    str
        A whole HTML page.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = environment.get_template(template).render(values)
    return page
