"""What may keep a call from being run. A guest's own faults are outcomes and never raised."""


class NotPrepared(Exception):
    """The native code of a module is not there, or no longer: prepare it, then run the call again. Nothing has run."""


class Unloadable(Exception):
    """A module that cannot be run here, ever; the text says why and is safe to show."""


class Quarantined(Exception):
    """The module has killed its workers again and again, and is kept out for now."""


class Exhausted(Exception):
    """Too many calls wait for a worker."""
