"""Who may sign in, which programs may ask, and who did what."""

from __future__ import annotations

import getpass
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from serving.clock import now
from serving.commands.shared import friendly, settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

ROLES = ("front_desk", "marketing", "manager", "admin")


def application() -> Engine:
    """Open the upgraded application database."""
    from serving import db

    engine = db.engine(settings().application_database)
    db.upgrade(engine)
    return engine


def operator() -> str:
    """Who runs this command, for the audit log."""
    return f"cli:{getpass.getuser()}"


def _listed(clinics: str | None) -> list[str] | None:
    return None if clinics is None else [part.strip() for part in clinics.split(",") if part.strip()]


@click.group()
def user() -> None:
    """People who may sign in."""


@user.command("add")
@click.argument("username")
@click.option("--role", type=click.Choice(ROLES), default="front_desk")
@click.option("--name", help="Name shown on the pages; the user name by default.")
@click.option("--clinics", help="Clinics they may see, separated by commas; all by default.")
@click.password_option()
@friendly
def add_user(username: str, role: str, name: str | None, clinics: str | None, password: str) -> None:
    """Add a person; the password is asked for."""
    from serving import audit
    from serving.auth import create_user

    engine = application()
    create_user(engine, username, password, role, name or username, clinics=_listed(clinics))
    audit.record(engine, audit.Act(now(), "add_user", operator(), detail=role))
    where = f" in {', '.join(_listed(clinics) or ()) or 'no clinic'}" if clinics is not None else ""
    click.echo(f"{username} may sign in as {role}{where}")


@click.group()
def key() -> None:
    """Keys for other programs."""


@key.command("add")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, help="What it may do, such as schedule.view; repeat.")
@click.option("--clinics", help="Clinics it may read, separated by commas; all by default.")
@click.option("--days", type=click.IntRange(min=1), help="Days until it ends; it does not by default.")
@click.option(
    "--theirs", "is_theirs", is_flag=True, help="Ask for a key that the program has (Open Dental's customer key)."
)
@friendly
def add_key(name: str, scopes: tuple[str, ...], clinics: str | None, days: int | None, is_theirs: bool) -> None:
    """Make a key; it is shown this once."""
    from serving import audit
    from serving.keys import create_key

    engine, at = application(), now()
    theirs = click.prompt("Their key", hide_input=True) if is_theirs else None
    made = create_key(engine, name, scopes, at, _listed(clinics), at + timedelta(days=days) if days else None, theirs)
    audit.record(engine, audit.Act(at, "add_key", operator(), detail=made.partition(".")[0]))
    click.echo(made)
    if not is_theirs:
        click.echo("Keep it now: only its hash is stored. Send it as the header  Authorization: Bearer KEY", err=True)


@key.command("list")
@friendly
def list_keys() -> None:
    """List all keys; secrets are not known any more."""
    from serving.keys import list_keys as read

    for one in read(application()):
        state = "revoked" if one.revoked_at else f"ends {one.expires_at:%Y-%m-%d}" if one.expires_at else "no end"
        where = "all clinics" if one.clinics is None else ", ".join(one.clinics) or "no clinic"
        click.echo(f"{one.key_id}  {one.name}  {', '.join(one.scopes)}  {where}  {one.created_at:%Y-%m-%d}  {state}")


@key.command("revoke")
@click.argument("key_id")
@friendly
def revoke_key(key_id: str) -> None:
    """End a key, from the next request on."""
    from serving import audit
    from serving.keys import revoke_key as run

    engine = application()
    run(engine, key_id, now())
    audit.record(engine, audit.Act(now(), "revoke_key", operator(), detail=key_id))
    click.echo(f"{key_id} is revoked")


@click.command("audit")
@click.option("--patient", "patient_id", help="Only acts on this patient.")
@click.option("--user", "username", help="Only acts of this user name.")
@click.option("--action", help="Only such acts, such as view_schedule.")
@click.option("--last", default=50, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@friendly
def audit_log(patient_id: str | None, username: str | None, action: str | None, last: int) -> None:
    """List who saw or exported what, the newest first."""
    from serving import audit
    from serving.console import print_audit

    wanted = (patient_id,) if patient_id else ()
    entries = audit.read(application(), last, username=username, action=action, patient_ids=wanted)
    print_audit(entries, settings().zone)


COMMANDS = (user, key, audit_log)
