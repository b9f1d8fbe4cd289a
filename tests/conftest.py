"""Settings of the whole suite."""

from hypothesis import settings

# The same examples everywhere, and no alarm when a busy machine is slow.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
