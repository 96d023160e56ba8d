"""The steps as the command line offers them: what each is for, its flags, an example."""

from __future__ import annotations

from typing import Any

from bincount.core.config import FITS, SEARCHES

Flag = tuple[str, dict[str, Any]]

_SOURCE: Flag = ("--source", {"required": True, "help": "s3://BUCKET, or a folder in the bucket's layout"})
_LIMIT: Flag = ("--limit", {"type": int, "metavar": "N", "help": "how many bins to draw (default: all)"})
_SEED: Flag = ("--seed", {"type": int, "default": 0, "metavar": "S", "help": "what every random choice is drawn from"})
_COUNTS: Flag = (
    "--counts",
    {"default": "1-5", "help": "counts to tell apart; choose 0-5+ (with empty bins, 6 or more) to reconcile (1-5)"},
)
_RUN_ID: Flag = ("--run-id", {"required": True, "help": "the MLflow run, as `bincount ingest` prints it"})
_PREPARED: Flag = ("--prepared", {"required": True, "help": "the features, as `bincount prepare` names them"})
VERSION: Flag = ("--model-version", {"metavar": "N", "help": "the version of the registered model, such as 3"})
_WHY: Flag = ("--why", {"metavar": "TEXT", "help": "the reason, for those who read the history"})
_WHO: Flag = ("--who", {"metavar": "NAME", "help": "who does it (default: the user that runs this)"})
COUNT_COST: Flag = ("--count-cost", {"type": float, "metavar": "C", "help": "what it costs to count a bin"})
MISS_COST: Flag = (
    "--miss-cost",
    {"type": float, "metavar": "M", "help": "what a wrong record that is not found costs"},
)
_BINS: list[Flag] = [
    _SOURCE,
    ("--ids", {"metavar": "FILE|A-B", "help": "file_list.json, a CSV, one id a line, or a range of ids"}),
    _COUNTS,
    _LIMIT,
    _SEED,
]
_SHARE: list[Flag] = [
    ("--index", {"type": int, "default": 0, "metavar": "I", "help": "which share, from 0 on (default: 0)"}),
    ("--of", {"type": int, "default": 1, "metavar": "N", "help": "how many shares there are (default: 1)"}),
]
_BOUNDS: list[Flag] = [
    ("--workers", {"type": int, "default": 256, "metavar": "W", "help": "requests at a time (default: 256)"}),
    (
        "--max-rejected",
        {"type": float, "default": 0.02, "metavar": "SHARE", "help": "give up above this share of bad bins"},
    ),
]
_NETWORK: list[Flag] = [
    ("--backbone", {"default": "ResNet50", "help": "any Keras application, or compact (default: ResNet50)"}),
    ("--weights", {"default": "auto", "help": "auto, imagenet, none or a file (default: auto)"}),
    ("--fit", {"choices": FITS, "default": "pad", "help": "pad keeps a photo's aspect, squash does not"}),
    ("--image-px", {"type": int, "default": 224, "metavar": "PX", "help": "side of the square (default: 224)"}),
]
_SEARCH: list[Flag] = [
    ("--trials", {"type": int, "default": 5, "metavar": "N", "help": "hyperparameter sets to try (default: 5)"}),
    ("--max-epochs", {"type": int, "default": 50, "metavar": "N", "help": "most epochs of a trial (default: 50)"}),
]
_HOW: list[Flag] = [
    ("--search", {"choices": SEARCHES, "default": "random", "help": "how trials are chosen (default: random)"}),
    ("--tune-also", {"metavar": "NAMES", "help": "search these too: dropout,units,loss_mix or some of them"}),
]
_LOSS_MIX: Flag = (
    "--loss-mix",
    {
        "type": float,
        "metavar": "SHARE",
        "help": "share of soft neighbour labels in the loss (default: 0 for a head, 0.3 for whole networks)",
    },
)
_FINE_TUNE: Flag = (
    "--fine-tune-epochs",
    {"type": int, "default": 0, "metavar": "N", "help": "epochs of training the whole network (default: 0)"},
)
_JUDGING: list[Flag] = [
    ("--model", {"default": "models:/bincount@champion", "help": "MLflow URI (default: the champion)"}),
    ("--capacity", {"type": int, "metavar": "N", "help": "how many bins can be counted"}),
    COUNT_COST,
    MISS_COST,
    (
        "--alpha",
        {"type": float, "default": 0.05, "metavar": "A", "help": "share of right records to flag (0.05)"},
    ),
    ("--blind", {"action": "store_true", "help": "hide records and predictions from who counts"}),
]
_ERROR_RATE: Flag = (
    "--error-rate",
    {"type": float, "metavar": "E", "help": "share of records that are wrong (what counting found, or 0.02)"},
)

STEPS: dict[str, tuple[str, list[Flag], str]] = {
    "plan": (
        "Read metadata and decide which shards an ingest will fetch; for many workers.",
        [*_BINS, *_BOUNDS],
        "bincount plan --source s3://aft-vbi-pds",
    ),
    "fetch": (
        "Fetch one worker's share of a plan; `bincount ingest`, asked as the plan was, then joins all shares.",
        [
            ("--request", {"required": True, "metavar": "NAME", "help": "the plan, as `bincount plan` names it"}),
            *_SHARE,
            *_BOUNDS,
        ],
        "bincount fetch --request NAME --index 0 --of 3",
    ),
    "ingest": (
        "Fetch bins from a bucket into shards and a manifest.",
        [*_BINS, *_BOUNDS, ("--attempt", {"help": "name under which a retry finds its run again"})],
        "bincount ingest --source s3://aft-vbi-pds --limit 400",
    ),
    "prepare": (
        "Compute the backbone's features of a manifest's photos once, or one worker's share of them.",
        [
            _RUN_ID,
            ("--manifest", {"required": True, "help": "the digest that ingest printed"}),
            *_NETWORK,
            _SEED,
            *_SHARE,
        ],
        "bincount prepare --run-id RUN --manifest DIGEST",
    ),
    "tune": (
        "Search learning rate, batch size and epochs with KerasTuner.",
        [_RUN_ID, _PREPARED, *_SEARCH, *_HOW, _LOSS_MIX, _SEED],
        "bincount tune --run-id RUN --prepared KEY --trials 5",
    ),
    "train": (
        "Train the best head and save the whole model.",
        [_RUN_ID, _PREPARED, _FINE_TUNE, _LOSS_MIX, _SEED],
        "bincount train --run-id RUN --prepared KEY",
    ),
    "evaluate": (
        "Score a run's model on its test part, or any registered model on any bins.",
        [
            ("--run-id", {"metavar": "RUN", "help": "the MLflow run whose model is scored on its own test part"}),
            ("--model", {"metavar": "URI", "help": "instead: models:/bincount@champion or models:/bincount/3"}),
            ("--source", {"help": "with --model: s3://BUCKET, or a folder in the bucket's layout"}),
            ("--ids", {"metavar": "FILE|A-B", "help": "with --model: which bins (default: all of the source)"}),
            ("--counts", {"help": "with --model: only bins with these counts (default: all it knows)"}),
            ("--limit", {"type": int, "metavar": "N", "help": "with --model: how many bins to draw (default: all)"}),
        ],
        "bincount evaluate --model models:/bincount@champion --source ../shared/abid",
    ),
    "register": ("Register the model with MLflow.", [_RUN_ID], "bincount register --run-id RUN"),
    "ask_gate": ("Ask the gate whether a version may be champion.", [VERSION], "bincount ask_gate 3"),
    "check_serving": (
        "Start a version as it will be served, ask it for golden bins, and stop it again.",
        [VERSION, ("--timeout-s", {"type": float, "default": 180.0, "help": "seconds to load (default: 180)"})],
        "bincount check_serving 3",
    ),
    "promote": (
        "Make a version the champion, if the gate agrees and it can be served.",
        [
            VERSION,
            ("--force", {"action": "store_true", "help": "ask neither; say why"}),
            _WHY,
            _WHO,
            ("--against", {"metavar": "N|none", "help": "only if this is still the champion"}),
        ],
        'bincount promote 3 --force --why "the gate judged by bins that were relabelled"',
    ),
    "reject": (
        "Keep a version from becoming champion.",
        [VERSION, _WHY, _WHO],
        'bincount reject 3 --why "it saw no empty bins"',
    ),
    "rollback": (
        "Go back to the champion before, or to an earlier one.",
        [VERSION, _WHY, _WHO],
        'bincount rollback --why "it counts tape as items"',
    ),
    "history": ("List who was champion when, and why.", [], "bincount history"),
    "verify_serving": (
        "Ask the running model server until it answers as the version does.",
        [VERSION, ("--timeout-s", {"type": float, "default": 180.0, "help": "seconds to wait (default: 180)"})],
        "bincount verify_serving 3",
    ),
    "reconcile": (
        "Find the bins whose record is wrong, worst first.",
        [
            _SOURCE,
            ("--records", {"metavar": "FILE", "help": "CSV or parquet with id and recorded (default: the metadata)"}),
            *_JUDGING,
            _ERROR_RATE,
            ("--out", {"required": True, "metavar": "DIR", "help": "folder for worklist, summary and report"}),
        ],
        "bincount reconcile --records stock.csv --source s3://aft-vbi-pds --capacity 50 --out worklist",
    ),
    "reconcile_inventory": (
        "Reconcile, and keep worklist, report and figures in an MLflow run; what the DAG of this name runs.",
        [
            _SOURCE,
            ("--records", {"metavar": "NAME", "help": "a file in the workspace's folder records (default: metadata)"}),
            *_JUDGING,
            _ERROR_RATE,
            ("--attempt", {"help": "name under which a retry finds its run again"}),
        ],
        "bincount reconcile_inventory --source s3://aft-vbi-pds --records stock.csv --capacity 50",
    ),
}
"""Each step's purpose, flags and example; the flags are its function's keyword arguments."""

CHAIN_FLAGS: list[Flag] = [_SOURCE, _LIMIT, _COUNTS, *_NETWORK, *_SEARCH, *_HOW, _FINE_TUNE, _LOSS_MIX, _SEED]
"""The flags of `bincount run`, which are the fields of `ChainConfig`."""
