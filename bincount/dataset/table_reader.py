"""Rows of CSV files as spreadsheets write them, and of parquet files, whatever their size."""

from __future__ import annotations

import codecs
import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bincount.dataset.number_format import decimal_mark_of, decimal_marks
from bincount.errors import ConfigError, DataError

_BATCH_ROWS = 10_000
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Columns:
    """The columns that a file may have.

    Attributes:
        titles: By column, the titles that mean it; "id" is one of the columns.
        required: Columns that the file must have.
        numeric: Columns of numbers.
    """

    titles: Mapping[str, tuple[str, ...]]
    required: Sequence[str]
    numeric: Sequence[str]

    def positions_in(self, header: Sequence[object], *, name: str) -> dict[str, int]:
        """Positions of the columns that a header has; capitals and outer spaces of titles do not matter.

        Raises:
            DataError: If a required column is missing, or one is there twice.

        Example:
            >>> titles = {"id": ("id", "bin_id"), "recorded": ("recorded",)}
            >>> columns = Columns(titles, required=("id", "recorded"), numeric=("recorded",))
            >>> columns.positions_in(["Recorded", "bin_id", "aisle"], name="stock.csv")
            {'id': 1, 'recorded': 0}
        """
        header_titles = [str(title).strip().lower() for title in header]
        positions = {}
        for column, accepted in self.titles.items():
            found_at = [position for position, title in enumerate(header_titles) if title in accepted]
            if len(found_at) > 1 or (not found_at and column in self.required):
                optional = " and ".join(other for other in self.titles if other not in self.required)
                raise DataError(
                    f"{name}: must have one column {column!r}, got {len(found_at)} among "
                    f"{', '.join(header_titles)[:200]!r}. "
                    f"Name the columns in the first line: {', '.join(self.required)} and, optionally, {optional}."
                )
            if found_at:
                positions[column] = found_at[0]
        return positions


class TableReader:
    """A CSV or parquet file with a header and rows.

    Attributes:
        name: The file's name without its folder.
        header: The columns' titles.
        positions: Positions of the named columns that the file has.
        is_parquet: Whether it is a parquet file; its ids are text.
        digest: 16 hex digits of the SHA-256 of the file.
        blank_rows: Rows without any text that the last pass skipped.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        """Reads the header.

        A CSV's separator is the one under which the required columns exist: a title may hold commas.

        Raises:
            ConfigError: If there is no such file.
            DataError: If it is empty, neither text in UTF-8 or UTF-16 nor parquet, lacks a column, or its ids are
                numbers.
        """
        self._path, self.name, self._columns = path, path.name, columns
        self.blank_rows = 0
        try:
            with path.open("rb") as file:
                self.digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
                file.seek(0)
                start = file.read(4)
        except OSError as error:
            raise ConfigError(
                f"{path}: must be a readable file, got {error.strerror!r}. Name a CSV or parquet."
            ) from None
        self.is_parquet = start == b"PAR1"
        utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        self._encoding = "utf-16" if utf16 else "utf-8-sig"
        self._delimiter, self._hint_lines = ",", 0
        self.header: Sequence[str] = self._parquet_header() if self.is_parquet else self._csv_header()
        self.positions = columns.positions_in(self.header, name=self.name)

    def rows(self) -> Iterator[tuple[int, dict[str, object]]]:
        """Line number (of parquet the row's, from 1) and values by column of each row that is not blank.

        Raises:
            DataError: If a row has more or fewer fields than the header, or the file is damaged.
        """
        self.blank_rows = 0
        rows = self._parquet_rows() if self.is_parquet else self._csv_data()
        for line, values in rows:
            yield line, {column: values[position] for column, position in self.positions.items()}

    def decimal_marks(self) -> dict[str, str | None]:
        """The decimal mark of each numeric column, from all rows; None where nothing shows it.

        Raises:
            DataError: As `rows` does.
        """
        proofs: dict[str, set[str]] = {column: set() for column in self._columns.numeric if column in self.positions}
        for _, values in self.rows():
            for column, marks in proofs.items():
                if mark := decimal_mark_of(values[column]):
                    marks.add(mark)
        return decimal_marks(proofs)

    def _csv_data(self) -> Iterator[tuple[int, Sequence[str]]]:
        lines = self._csv_rows()
        next(lines)
        for line, row in lines:
            if len(row) != len(self.header):
                raise DataError(
                    f"{self.name}, line {line}: must have {len(self.header)} fields as the first line has, "
                    f"got {len(row)}. Quote fields that hold the separator."
                )
            yield line, row

    def _csv_header(self) -> Sequence[str]:
        """Settles on a separator; where none gives the required columns, on the one that gives most titles."""
        hint = self._excel_hint()
        headers: dict[str, Sequence[str]] = {}
        failure = None
        for self._delimiter in [*hint, *_DELIMITERS]:
            try:
                _, header = next(self._csv_rows(), (0, None))
            except DataError as error:
                failure = failure or error
                continue
            if header is None:
                raise DataError(f"{self.name}: must have a line of titles, got an empty file. Write id,recorded.")
            with suppress(DataError):
                self._columns.positions_in(header, name=self.name)
                return header
            headers[self._delimiter] = header
        if failure and not headers:
            raise failure
        self._delimiter = max(headers, key=lambda delimiter: len(headers[delimiter]))
        return headers[self._delimiter]

    def _excel_hint(self) -> str:
        """The separator in the line "sep=;" that Excel writes before the titles, "" where there is none."""
        try:
            with self._path.open(encoding=self._encoding, newline="") as file:
                first = file.readline(1_000_000)
        except UnicodeError:
            return ""  # reading the titles says what is wrong
        self._hint_lines = int(first.lower().startswith("sep="))
        return first[4:5].strip("\r\n") if self._hint_lines else ""

    def _csv_rows(self) -> Iterator[tuple[int, Sequence[str]]]:
        try:
            with self._path.open(encoding=self._encoding, newline="") as file:
                for _ in range(self._hint_lines):
                    file.readline()
                reader = csv.reader(file, delimiter=self._delimiter, strict=True)
                for row in reader:
                    if any(text.strip() for text in row):
                        yield reader.line_num + self._hint_lines, row
                    else:
                        self.blank_rows += 1
        except UnicodeError:
            raise DataError(f"{self.name}: must be text in UTF-8, got something else. Save it as CSV UTF-8.") from None
        except csv.Error as error:
            line = reader.line_num + self._hint_lines
            raise DataError(f"{self.name}, line {line}: must be CSV, got {error}. Fix it.") from None

    def _parquet_header(self) -> Sequence[str]:
        import pyarrow
        from pyarrow import parquet

        try:
            schema = parquet.read_schema(self._path)
            names = schema.names
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from None
        for name, kind in zip(names, schema.types, strict=True):
            if name.strip().lower() in self._columns.titles["id"] and not _is_text(kind):
                raise DataError(
                    f"{self.name}: ids must be text, got {kind}. "
                    "00523 and 523 are different bins; write the column as strings."
                )
        return names

    def _parquet_rows(self) -> Iterator[tuple[int, Sequence[object]]]:
        import pyarrow
        from pyarrow import parquet

        line = 0
        try:
            with parquet.ParquetFile(self._path) as file:
                for batch in file.iter_batches(_BATCH_ROWS):
                    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        line += 1
                        if any(text_of(value) for value in row):
                            yield line, row
                        else:
                            self.blank_rows += 1
        # The last two: text that is not UTF-8, and dates beyond those of Python.
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self.name}: must be a whole parquet file, got {error}. Write it again.")


def text_of(value: object) -> str:
    """A field's text in one line and without the spaces around it, "" where there is nothing.

    `csv` writes a lone carriage return without quotes, and what follows would be a row of its own, also a formula.

    Example:
        >>> text_of(" A-1\\r=1+1 "), text_of(None)
        ('A-1 =1+1', '')
    """
    return "" if value is None else " ".join(str(value).splitlines()).strip()


def _is_text(kind: object) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type  # type: ignore[attr-defined]
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
