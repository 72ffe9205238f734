"""Every error a user can meet.

::

    RevisitError                 something the user can mend; the command line exits 2
    ├── SettingsError            practice.toml or a REVISIT_* variable is wrong
    ├── MappingError             the mapping file does not describe the file at hand
    ├── FileError                the file cannot be read as what the mapping says it is
    ├── EventError               an event at the desk does not fit the contract of its table
    ├── StoreError               stored records are missing, busy or do not fit
    ├── NotBuiltError            a step needs an earlier step's result
    ├── NotEnoughDataError       too little history for what was asked
    ├── NotRandomisedError       contacts were not drawn by chance with known odds
    └── ModelError               a model does not load or does not match its contract

A message says what was expected, what came, where, and what to do. It never
holds a patient's name, phone or note, nor the value of a personal column.
"""

from __future__ import annotations


class RevisitError(Exception):
    """Base of every error that the user can mend.

    Attributes
    ----------
    http_status : int
        The status under which an API answer reports it.
    """

    http_status = 400


class SettingsError(RevisitError):
    """A setting has a wrong name or value."""


class MappingError(RevisitError):
    """A mapping names columns or tables that are not there, or says too little."""


class FileError(RevisitError):
    """A file is missing, empty, not text, or not of the declared shape."""


class EventError(RevisitError):
    """An event at the desk does not fit the contract of its table."""


class StoreError(RevisitError):
    """The record store is missing, busy, or holds something unexpected."""

    http_status = 503


class NotBuiltError(RevisitError):
    """A step was asked for before the step whose result it needs."""

    http_status = 503


class NotEnoughDataError(RevisitError):
    """There is too little history for the question."""


class NotRandomisedError(RevisitError):
    """The effect of contacts was asked of contacts that were not drawn by chance with known odds."""


class ModelError(RevisitError):
    """A registered model does not load, or answers another contract."""

    http_status = 503
