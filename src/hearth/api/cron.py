"""The validators of schedules; the rules themselves are `hearth.model.cron`."""

from dataclasses import dataclass
from typing import Any

from hearth.api.validators import Invalid
from hearth.model.cron import is_cron, read_zone


@dataclass(frozen=True, slots=True)
class Cron:
    """Validator of a `schedule`: a CRON rule that can ever be due, or `""` for none."""

    text = (
        "Value must be a CRON expression of five fields (minute, hour, day of month, month, day of week; UTC) "
        "or one of @yearly, @monthly, @weekly, @daily, @hourly, with at least one date on which it is due"
    )

    def check(self, value: Any) -> str:
        if value == "" or (isinstance(value, str) and is_cron(value)):
            return str(value)
        raise Invalid(self.text)


@dataclass(frozen=True, slots=True)
class TimeZone:
    """Validator of a time zone's name."""

    text = "Value must be the name of a time zone of the IANA database, such as UTC or Europe/Berlin"

    def check(self, value: Any) -> str:
        if isinstance(value, str) and len(value) <= 64 and read_zone(value) is not None:
            return value
        raise Invalid(self.text)
