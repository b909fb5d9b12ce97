"""What one run of a function may use and how many there may be: defaults, ceilings, and patches."""

from dataclasses import dataclass, fields

from libs.common.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit set. Units are in the names."""

    timeout_ms: int
    memory_mb: int
    max_output_bytes: int
    max_log_bytes: int
    max_concurrency: int


@dataclass(frozen=True, slots=True)
class LimitsPatch:
    """Limits as a caller sets them; None takes the default, or stays."""

    timeout_ms: int | None = None
    memory_mb: int | None = None
    max_output_bytes: int | None = None
    max_log_bytes: int | None = None
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class LimitsPolicy:
    """Defaults and ceilings of an installation."""

    defaults: Limits
    ceilings: Limits

    def complete(self, patch: LimitsPatch) -> Limits:
        """The limits of a new function.

        Raises:
            InvalidArgument: one is out of bounds.
        """
        return self.patch(self.defaults, patch)

    def patch(self, limits: Limits, patch: LimitsPatch) -> Limits:
        """The limits after a change.

        Raises:
            InvalidArgument: one is out of bounds.
        """
        values = {field.name: self._checked(field.name, limits, patch) for field in fields(Limits)}
        return Limits(**values)

    def _checked(self, name: str, limits: Limits, patch: LimitsPatch) -> int:
        value: int | None = getattr(patch, name)
        if value is None:
            kept: int = getattr(limits, name)
            return kept
        least, most = (0 if name == "max_log_bytes" else 1), getattr(self.ceilings, name)
        if not least <= value <= most:
            raise InvalidArgument.of(f"limits.{name}", f"must be from {least} to {most}")
        return value
