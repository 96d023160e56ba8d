"""The schema language of settings: a dataclass whose fields know their meaning, range and choices.

Only the standard library is imported, so that reading a DAG file costs nothing.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from bincount.errors import ConfigError

REQUIRED: Any = object()
"""The default of a setting that must be given."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting.

    Attributes:
        name: As a keyword argument, such as "image_px".
        type: bool, int, float or str.
        default: Its default; `REQUIRED` where a value must be given.
        nullable: Whether None is a value.
        help: What it means, as a sentence without its full stop.
        form_help: What a form says in place of `help`, where a form takes other values than the command line.
        title: What a form calls it.
        section: Under which heading a form shows it, folded; without one it is on top and in sight.
        low: Smallest value.
        high: Largest value.
        exclusive: Whether `low` and `high` themselves are no values.
        choices: The values of a text that takes few.
        pattern: Regular expression of a text, for forms.
        check: Raises ConfigError for a value that no other rule refuses.
        examples: Values that a form offers.
        metavar: What stands for the value in `--help`.
        unset: What None stands for, such as "all".
        env: The environment variable of an operator's setting.
    """

    name: str
    type: type = str
    default: Any = REQUIRED
    nullable: bool = False
    help: str = ""
    form_help: str = ""
    title: str = ""
    section: str = ""
    low: float | None = None
    high: float | None = None
    exclusive: bool = False
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    check: Callable[[Any], object] | None = None
    examples: tuple[Any, ...] = ()
    metavar: str | None = None
    unset: str = ""
    env: str = ""

    @property
    def flag(self) -> str:
        """The flag of the command line.

        Example:
            >>> Setting(name="image_px").flag
            '--image-px'
        """
        return f"--{self.name.replace('_', '-')}"

    @property
    def is_required(self) -> bool:
        """True if it has no default."""
        return self.default is REQUIRED

    @property
    def rule(self) -> str:
        """The values that it takes, in words.

        Example:
            >>> Setting(name="trials", type=int, low=1, high=1000).rule
            'a whole number from 1 to 1000'
        """
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        what = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[self.type]
        low, high = (
            None if end is None else f"{end:g}" if end < 1e6 else f"{end:.0f}" for end in (self.low, self.high)
        )
        if low is not None and high is not None:
            return f"{what} above {low} and below {high}" if self.exclusive else f"{what} from {low} to {high}"
        if low is not None:
            return f"{what} above {low}" if self.exclusive else f"{what} >= {low}"
        return what

    def validate(self, value: object) -> None:
        """Checks a value.

        Raises:
            ConfigError: If the setting takes no such value; the message names the setting.
        """
        if value is None and self.nullable:
            return
        if not self._is_typed(value) or not self._is_within(value) or (self.choices and value not in self.choices):
            raise ConfigError(f"{self.name}: must be {self.rule}, got {value!r}.")
        if self.type is str and not str(value).strip():
            raise ConfigError(f"{self.name}: must be a text that is not empty, got {value!r}.")
        if self.check is not None:
            self.check(value)

    def _is_typed(self, value: object) -> bool:
        if self.type is float:
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return isinstance(value, self.type) and (self.type is bool or not isinstance(value, bool))

    def _is_within(self, value: Any) -> bool:
        if self.type not in (int, float):
            return True
        if self.exclusive:
            return (self.low is None or value > self.low) and (self.high is None or value < self.high)
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def setting(default: Any = MISSING, **facts: Any) -> Any:
    """A dataclass field that is a setting; `facts` are attributes of `Setting`."""
    return field(default=default, metadata={"setting": facts})


def settings_of(schema: type) -> tuple[Setting, ...]:
    """The settings of a schema, in their order.

    Example:
        >>> from bincount.config import NetworkConfig
        >>> [setting.flag for setting in settings_of(NetworkConfig)]
        ['--backbone', '--weights', '--fit', '--image-px', '--seed']
    """
    hints, found = get_type_hints(schema), []
    for each in fields(schema):
        hint, nullable = hints[each.name], False
        if get_origin(hint) in (Union, types.UnionType):
            (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
            nullable = True
        facts = each.metadata.get("setting")
        if facts is not None:
            default = REQUIRED if each.default is MISSING else each.default
            found.append(Setting(name=each.name, type=hint, default=default, nullable=nullable, **facts))
    return tuple(found)


def values_of(config: object, schema: type) -> dict[str, Any]:
    """The values of those settings of `config` that `schema` has too."""
    return {each.name: getattr(config, each.name) for each in settings_of(schema) if hasattr(config, each.name)}


class Schema:
    """A dataclass whose fields are settings; a value that a setting does not take is refused when it is made."""

    def __post_init__(self) -> None:
        for each in settings_of(type(self)):
            each.validate(getattr(self, each.name))


_S = TypeVar("_S")


def read_object(text: str, where: str) -> dict[str, Any]:
    """Reads an operator's setting: a JSON object; an empty text is an empty one.

    Raises:
        ConfigError: If it is something else.

    Example:
        >>> read_object('{"ece": 0.03}', "BINCOUNT_GATE")
        {'ece': 0.03}
    """
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f'{where}: must be a JSON object such as {{"NAME": VALUE}}, got {text[:200]!r}.')
    return found


def read_schema(text: str, schema: type[_S], where: str) -> _S:
    """Reads a JSON object with some of a schema's settings; the others keep their defaults.

    Raises:
        ConfigError: If it is no JSON object, names another setting or holds a value that its setting does not take.

    Example:
        >>> from bincount.config import GateLimits
        >>> read_schema('{"ece": 0.03, "groups": 50}', GateLimits, "BINCOUNT_GATE")
        GateLimits(groups=50, ece=0.03, rps_worse=0.02, recall_fall=0.1, shadow_photos=0, shadow_log=None)
    """
    given, names = read_object(text, where), [each.name for each in settings_of(schema)]
    if unknown := sorted(set(given) - set(names)):
        raise ConfigError(f"{where}: must name settings of {', '.join(names)}, got {unknown[0]!r}.")
    try:
        return schema(**given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
