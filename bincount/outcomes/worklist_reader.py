"""Reads a worklist that `reconcile` wrote."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from bincount.dataset.split import part_of
from bincount.errors import ConfigError, DataError
from bincount.files import sha256_of_file

_PAGE = 2048


@dataclass(frozen=True)
class Origin:
    """Facts that are the same for every bin of a worklist.

    Attributes:
        worklist: 16 hex digits of the SHA-256 of `worklist.jsonl`.
        source: Where the photos are.
        model_version: Version of the model.
        manifest: Digest of the manifest that the model was trained on.
        counts: The model's classes, such as "1-5".
        prior: Frequencies of the classes among its training bins.
        is_source: Whether it was trained on bins of this very source.
    """

    worklist: str
    source: str
    model_version: str
    manifest: str
    counts: str
    prior: tuple[float, ...]
    is_source: bool


@dataclass(frozen=True, slots=True)
class Stated:
    """Statement of a worklist on a bin, which outcomes are compared with.

    Attributes:
        wrong: Probability that the record is wrong.
        low: Lowest count of the prediction interval; None where the products on the record were judged too, or an
            earlier release wrote the worklist: then no probability of the interval is known.
        high: Highest count of it, of an open class its lowest count; None likewise.
        temperature: That was applied to the model's probabilities.
    """

    wrong: float
    low: int | None
    high: int | None
    temperature: float


@dataclass(frozen=True, slots=True)
class WorklistRow:
    """A bin of a worklist.

    Attributes:
        id: The bin's id.
        place: Its position, from 1.
        recorded: The recorded count, None where the record had none.
        probabilities: Predicted for its photo, None where the record was not compared with it.
        in_training: Whether the bin may have been in the model's training data.
        stated: What was stated of it, None where the record was not compared with its photo, or where an earlier
            release imported the count.
    """

    id: str
    place: int
    recorded: int | None
    probabilities: tuple[float, ...] | None
    in_training: bool
    stated: Stated | None = None


class Worklist:
    """The folder given to `reconcile --out`.

    Attributes:
        origin: What is the same for every bin.
        summary: Content of `summary.json`.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the summary and compares its digest with the list's.

        Raises:
            ConfigError: If there is no worklist, or an earlier release wrote it.
            DataError: If a file was changed.
        """
        self._path = folder / "worklist.jsonl"
        try:
            digest = sha256_of_file(self._path)[:16]
            self.summary = json.loads((folder / "summary.json").read_bytes())
        except OSError as error:
            raise ConfigError(
                f"--worklist: {folder} must be a folder that `bincount reconcile --out` wrote, got {error.strerror!r}."
            ) from None
        except ValueError as error:
            raise DataError(
                f"{folder}/summary.json: must be JSON, got {error}. Run `bincount reconcile` again."
            ) from None
        try:
            expected = self.summary["worklist"]
            self.origin = Origin(
                worklist=digest,
                **{name: self.summary[name] for name in ("source", "model_version", "manifest", "counts")},
                prior=tuple(self.summary["prior"]),
                is_source=self.summary["learned_from"] > 0,
            )
        except (KeyError, TypeError):
            raise ConfigError(
                f"--worklist: {folder} must have the fields that outcomes need, got a worklist of an earlier release. "
                "Run `bincount reconcile` again."
            ) from None
        if expected != digest:
            raise DataError(
                f"{self._path}: must be as `bincount reconcile` wrote it, got digest {digest} instead of {expected}. "
                "Restore it, or run `bincount reconcile` again."
            )

    def pages(self) -> Iterator[list[WorklistRow]]:
        """The bins in the list's order, page by page."""
        with self._path.open(encoding="utf-8") as file:
            lines = enumerate(file, 1)
            while page := [self._row_of(place, json.loads(line)) for place, line in itertools.islice(lines, _PAGE)]:
                yield page

    def places(self, ids: Collection[str]) -> dict[str, tuple[str, str]]:
        """Location and address of the photo of some bins, by id."""
        with self._path.open(encoding="utf-8") as file:
            listed = (line for line in map(json.loads, file) if line["id"] in ids)
            return {line["id"]: (line.get("location") or "", line.get("photo") or "") for line in listed}

    def _row_of(self, place: int, line: dict) -> WorklistRow:
        probabilities = stated = None
        if line["mismatch_probability"] is not None:
            probabilities = tuple(line["probabilities"].values())
            evidence = line.get("evidence", "photo")
            of_photos = not evidence.endswith("contents")
            stated = Stated(
                wrong=line["mismatch_probability"],
                low=line.get("low") if of_photos else None,
                high=line.get("high") if of_photos else None,
                temperature=self.summary.get("temperature", 1.0),
            )
            if evidence != "photo":
                # This distribution contains a prior of the bin itself (`Calibration.of_joint`). `CountedBins` divides
                # by the model's prior, so the distribution is multiplied by that prior here.
                weighted = [share * prior for share, prior in zip(probabilities, self.origin.prior, strict=True)]
                probabilities = tuple(share / sum(weighted) for share in weighted)
        return WorklistRow(
            id=line["id"],
            place=place,
            recorded=line["recorded"],
            probabilities=probabilities,
            in_training=self.origin.is_source and part_of(line["id"]) != "test",
            stated=stated,
        )
