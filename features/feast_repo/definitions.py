"""What `feast apply` finds here: the objects of `features.definitions`."""

from features.definitions import definitions
from features.settings import load_settings

globals().update({thing.name: thing for thing in definitions(load_settings().paths.features)})
