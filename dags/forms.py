"""The DAGs' forms, from the schema of settings in `bincount.config`."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from bincount.schema import Setting, settings_of

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def form_params(schema: type, **defaults: Any) -> dict[str, Param]:
    """The fields of a form.

    Args:
        schema: A dataclass whose fields are settings.
        **defaults: The form's defaults of settings that have no default of their own.
    """
    return {each.name: _param(each, defaults.get(each.name, each.default)) for each in settings_of(schema)}


def _param(setting: Setting, default: Any) -> Param:
    low, high = ("exclusiveMinimum", "exclusiveMaximum") if setting.exclusive else ("minimum", "maximum")
    kind = _TYPES[setting.type]
    schema = {
        "type": ["null", kind] if setting.nullable else kind,
        low: setting.low,
        high: setting.high,
        "enum": list(setting.choices) or None,
        "pattern": setting.pattern,
        "minLength": 1 if setting.type is str and not setting.pattern and not setting.nullable else None,
        "maxLength": 200 if setting.type is str else None,
        "examples": list(setting.examples) or None,
        "title": setting.title,
        "section": setting.section or None,
    }
    return Param(default, description=_description(setting), **{k: v for k, v in schema.items() if v is not None})


def _description(setting: Setting) -> str:
    text = setting.form_help or setting.help
    text = text[0].upper() + text[1:]
    return f"{text}; empty: {setting.unset}." if setting.nullable else f"{text}."
