"""What holds for every test."""

import os

from hypothesis import HealthCheck, settings

# A machine that is busy with something else is no fault of a test. In CI the same examples are tried every time: what
# is new is found where somebody is there to look at it.
settings.register_profile(
    "hearth", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("hearth")
