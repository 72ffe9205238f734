"""What `feast apply` finds here: the objects of `features.definitions`."""

from features.definitions import definitions
from features.settings import load_settings

appointment, schedule, *_services = definitions(load_settings().paths.features)
globals().update({service.name: service for service in _services})
