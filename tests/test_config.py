import pytest

from bincount.config import ChainConfig, SearchConfig
from bincount.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source", " "),
        ("limit", 0),
        ("limit", 2.5),
        ("counts", "5-1"),
        ("backbone", "os.system('x')"),
        ("weights", ""),
        ("fit", "crop"),
        ("image_px", 31),
        ("image_px", True),
        ("trials", 0),
        ("max_epochs", 1001),
        ("search", "hyperband"),
        ("tune_also", "learning_rate"),
        ("tune_also", "units,units"),
        ("loss_mix", 1.5),
        ("fine_tune_epochs", -1),
        ("seed", -1),
    ],
)
def test_a_wrong_value_is_named(name, value):
    with pytest.raises(ConfigError, match=f"^{name}: must be"):
        ChainConfig(**{"source": "s3://bins", name: value})


def test_defaults_are_valid():
    assert ChainConfig(source="s3://bins").counts == "1-5"


def test_a_search_of_the_fine_tuning_needs_its_epochs():
    message = "^search_fine_tuning: must stand with fine_tune_epochs, got 0 of them"
    with pytest.raises(ConfigError, match=message):
        ChainConfig(source="s3://bins", search_fine_tuning=True)
    with pytest.raises(ConfigError, match=message):
        SearchConfig(search_fine_tuning=True)
    assert SearchConfig(search_fine_tuning=True, fine_tune_epochs=6).search_fine_tuning
