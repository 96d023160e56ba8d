"""Tables in files, row by row, whatever their size: CSV as spreadsheets write it, and parquet."""

from __future__ import annotations

import codecs
import csv
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from bincount.errors import ConfigError, DataError

_ROWS_AT_A_TIME = 10_000
_DELIMITERS = ",;\t|"


class TableReader:
    """A file with a header and rows.

    Attributes:
        name: The file's name without its folder.
        header: The columns' titles.
        digest: 16 hex digits of the SHA-256 of the file.
    """

    def __init__(self, path: Path) -> None:
        """Reads the header.

        Raises:
            ConfigError: If there is no such file.
            DataError: If it is empty, neither text in UTF-8 or UTF-16 nor parquet, or its ids are numbers.
        """
        self._path, self.name = path, path.name
        try:
            with path.open("rb") as file:
                self.digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
                file.seek(0)
                start = file.read(4)
        except OSError as error:
            raise ConfigError(
                f"{path}: must be a readable file, got {error.strerror!r}. Name a CSV or parquet."
            ) from None
        self._is_parquet = start == b"PAR1"
        utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        self._encoding = "utf-16" if utf16 else "utf-8-sig"
        self.header: Sequence[str] = self._parquet_header() if self._is_parquet else self._first_line()

    def rows(self) -> Iterator[tuple[int, Sequence[object]]]:
        """Line number (of parquet the row's, from 1) and values of each row that is not blank.

        Raises:
            DataError: If a row has more or fewer fields than the header, or the file is damaged.
        """
        if self._is_parquet:
            yield from self._parquet_rows()
            return
        lines = self._lines()
        next(lines)
        for line, row in lines:
            if len(row) != len(self.header):
                raise DataError(
                    f"{self.name}, line {line}: must have {len(self.header)} fields as the first line has, "
                    f"got {len(row)}. Quote fields that hold the separator."
                )
            yield line, row

    def _first_line(self) -> list[str]:
        for _, titles in self._lines():
            return titles
        raise DataError(f"{self.name}: must have a line of titles, got an empty file. Write id,recorded.")

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        try:
            with self._path.open(encoding=self._encoding, newline="") as file:
                first = file.readline(1_000_000)
                before = 0
                if first.lower().startswith("sep="):  # Excel's own hint; the next line shows it, too
                    first, before = file.readline(1_000_000), 1
                delimiter = max(_DELIMITERS, key=first.count)
                reader = csv.reader(itertools.chain([first], file), delimiter=delimiter, strict=True)
                for row in reader:
                    if any(field.strip() for field in row):
                        yield reader.line_num + before, row
        except UnicodeError:
            raise DataError(f"{self.name}: must be text in UTF-8, got something else. Save it as CSV UTF-8.") from None
        except csv.Error as error:
            raise DataError(
                f"{self.name}, line {reader.line_num + before}: must be CSV, got {error}. Fix it."
            ) from None

    def _parquet_header(self) -> list[str]:
        import pyarrow
        from pyarrow import parquet

        try:
            schema = parquet.read_schema(self._path)
        except (pyarrow.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        for field in schema:
            if field.name.strip().lower() in ("id", "bin_id", "bin") and not _is_text(field.type):
                raise DataError(
                    f"{self.name}: ids must be text, got {field.type}. "
                    "00523 and 523 are different bins; write the column as strings."
                )
        return schema.names

    def _parquet_rows(self) -> Iterator[tuple[int, Sequence[object]]]:
        import pyarrow
        from pyarrow import parquet

        line = 0
        try:
            with parquet.ParquetFile(self._path) as file:
                for batch in file.iter_batches(_ROWS_AT_A_TIME):
                    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        line += 1
                        yield line, row
        except (pyarrow.ArrowException, OSError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self.name}: must be a whole parquet file, got {error}. Write it again.")


def _is_text(kind: object) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type  # type: ignore[attr-defined]
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
