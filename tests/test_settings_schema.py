"""One schema of settings: the command line, the forms and the page of settings are made from it."""

import argparse
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from bincount.cli import VERBS, add_settings, parser
from bincount.config import ChainConfig, FormConfig, ReconcileConfig, TrainConfig
from bincount.errors import ConfigError
from bincount.schema import setting, settings_of, values_of

ROOT = Path(__file__).parents[1]


def loaded(path):
    """A module that is no part of the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def settings_page():
    return loaded(ROOT / "docs" / "write_settings.py")


@dataclass(frozen=True, kw_only=True)
class WithOneMore(TrainConfig):
    """What a new setting takes: this field, and the code that uses it."""

    warmup: float = setting(0.1, low=0, high=1, metavar="SHARE", title="Warm-up", section="Effort", help="its share")


def test_a_setting_that_is_added_reaches_flags_values_and_checks():
    flags = argparse.ArgumentParser()
    add_settings(flags, settings_of(WithOneMore))
    given = flags.parse_args(["--warmup", "0.5"])
    assert given.warmup == 0.5
    assert "its share (default: 0.1)" in flags.format_help()
    assert values_of(WithOneMore(warmup=given.warmup), WithOneMore)["warmup"] == 0.5
    with pytest.raises(ConfigError, match=r"^warmup: must be a number from 0 to 1, got 2"):
        WithOneMore(warmup=2)


def test_a_setting_that_is_added_reaches_the_page(settings_page, monkeypatch):
    monkeypatch.setattr(settings_page, "SECTIONS", (("Training", WithOneMore, "Anywhere."),))
    assert "| `warmup` | `0.1` | a number from 0 to 1 | its share |" in settings_page.page()


def test_the_page_is_current(settings_page):
    assert settings_page.PAGE.read_text() == settings_page.page(), "run python docs/write_settings.py"


def test_the_command_line_has_every_setting_of_the_chain():
    given = parser().parse_args(["run", "--source=s3://bins"])
    assert {each.name for each in settings_of(ChainConfig)} <= set(vars(given))
    assert ChainConfig(**{each.name: getattr(given, each.name) for each in settings_of(ChainConfig)}).trials == 5


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.stage != "learning"], ids=lambda verb: verb.name)
def test_a_verb_s_flags_are_what_its_function_takes(verb):
    module, _, name = verb.target.partition(":")
    taken = inspect.signature(getattr(import_module(f"bincount.{module}"), name)).parameters
    assert next(iter(taken)) == "settings"
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values()):
        return
    assert {each.name for each in verb.settings} <= set(taken)


@pytest.mark.parametrize("schema", [FormConfig, ReconcileConfig])
def test_what_a_form_shows_has_a_title_and_a_sentence(schema):
    for each in settings_of(schema):
        assert each.title, each.name
        said = each.form_help or each.help
        assert said
        assert not said.endswith("."), "the form adds its full stop"
        assert "--" not in said, "a form has no flags"
        assert "folder in the bucket's layout" not in said, "a form takes buckets alone"
        assert not each.nullable or each.unset, each.name
