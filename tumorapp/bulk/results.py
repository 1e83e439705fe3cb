"""The rows of a run on their way to a file or a folder, in parts that are whole or not there.

A folder of results has a Parquet file for each part. Those of one file, CSV or Parquet, wait in a
folder next to it until the run ends, and then become that file.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import click
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from pyarrow import parquet

from brainscan.files import flush, write_bytes
from brainscan.storage import explained, is_url, open_storage
from tumorapp.bulk.predict import Row
from tumorapp.prediction_table import list_columns, open_table

_ROWS_OF_A_PART = 2000
_ENDING = ".parquet"
_TEXTS = (
    "file",
    "model",
    "version",
    "slice_file",
    "verdict",
    "label",
    "warnings",
    "error",
    "codes",
)
_FLAGS = ("shows_tumor", "tumor", "uncertain", "in_distribution")
_COUNTS = ("slice", "slices", "strongest")
_TYPES = {
    **dict.fromkeys(_TEXTS, pa.string()),
    **dict.fromkeys(_FLAGS, pa.bool_()),
    **dict.fromkeys(_COUNTS, pa.int32()),
}


def make_schema(classes: Sequence[str]) -> pa.Schema:
    """Give the columns of the table for a model with these classes, with their types."""
    columns = list_columns(classes, series=True)
    return pa.schema([(name, _TYPES.get(name, pa.float64())) for name in columns])


class Results:
    """Where the rows of a run go.

    Args:
        place: a file whose name ends in .csv or .parquet, else a folder; a path or a URL.
        model: name and version of the model whose answers they are.
        classes: in its order.
        resume: whether there may be parts already, which stay.

    Raises:
        ValueError: there are parts already.
        OSError: the place cannot be used.
    """

    def __init__(
        self, place: str, model: tuple[str, str], classes: Sequence[str], *, resume: bool
    ) -> None:
        self._place, self._model, self._classes = place, model, classes
        self._schema = make_schema(classes)
        self._is_file = place.lower().endswith((".csv", _ENDING))
        self._folder = f"{place}.parts" if self._is_file else place
        self._rows: list[Row] = []
        if is_url(place):
            self._system, self._path = open_storage(self._folder)
        else:
            self._system, self._path = LocalFileSystem(), self._folder
            Path(self._folder).mkdir(parents=True, exist_ok=True)
        parts = self._list_parts()
        if parts and not resume:
            raise ValueError(
                f"{self._folder} has results already. Add --resume to go on with that run, choose "
                "another place with --out, or delete them."
            )
        numbers = (re.fullmatch(rf"part-(\d+)\{_ENDING}", name) for name in parts)
        self._next = 1 + max((int(found[1]) for found in numbers if found), default=-1)

    def list_names(self) -> Iterator[str]:
        """Give the names of the files that have rows; a damaged part is deleted.

        Raises:
            ValueError: there are rows of another model.
        """
        for name in self._list_parts():
            try:
                table = self._read(name)
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # it is not the file's content
                click.echo(
                    f"{self._folder}/{name} is half-written ({error}). Its scans are predicted "
                    "again.",
                    err=True,
                )
                with explained(self._folder):
                    self._system.rm_file(f"{self._path}/{name}")
                continue
            models = set(
                zip(*(table[name].to_pylist() for name in ("model", "version")), strict=True)
            )
            if table.schema != self._schema or models - {self._model}:
                found = ", ".join(f"{name}/{version}" for name, version in sorted(models))
                raise ValueError(
                    f"{self._folder} has results of {found}; this run has those of "
                    f"{'/'.join(self._model)}. Choose the same model with --model, or another "
                    "place with --out."
                )
            for column in ("file", "slice_file"):
                yield from filter(None, table[column].to_pylist())

    def add(self, rows: Sequence[Row]) -> None:
        """Take all rows of some groups; they are stored together."""
        self._rows += rows
        if len(self._rows) >= _ROWS_OF_A_PART:
            self._write_part()

    def finish(self) -> None:
        """Store what is left; where a file is wanted, make it of the parts."""
        if self._rows:
            self._write_part()
        if self._is_file:
            self._join()

    def _write_part(self) -> None:
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist(self._rows, self._schema)
        parquet.write_table(table, sink, compression="zstd")
        path = f"{self._path}/part-{self._next:06}{_ENDING}"
        data = sink.getvalue().to_pybytes()
        if isinstance(self._system, LocalFileSystem):
            write_bytes(Path(path), data)
        else:
            with explained(self._folder):
                self._system.pipe_file(path, data)
        self._next += 1
        self._rows = []

    def _list_parts(self) -> list[str]:
        try:
            with explained(self._folder):
                found = self._system.ls(self._path, detail=False)
        except FileNotFoundError:
            return []
        names = sorted(path.rpartition("/")[2] for path in found)
        return [name for name in names if name.endswith(_ENDING) and not name.startswith(".")]

    def _read(self, name: str) -> pa.Table:
        with explained(f"{self._folder}/{name}"):
            data = self._system.cat_file(f"{self._path}/{name}")
        return parquet.read_table(pa.BufferReader(data))

    def _join(self) -> None:
        """Put the parts together; a file that is on this machine appears when it is whole."""
        is_here = isinstance(self._system, LocalFileSystem)
        path = f"{self._path}/whole" if is_here else self._path.removesuffix(".parts")
        write = self._write_csv if self._place.lower().endswith(".csv") else self._write_parquet
        with explained(self._place):
            with self._system.open(path, "wb") as file:
                write(file)
            if is_here:
                flush(Path(path))
                Path(path).replace(self._place)
            self._system.rm(self._path, recursive=True)

    def _write_csv(self, file: BinaryIO) -> None:
        text = cast("TextIO", codecs.getwriter("utf-8")(file))
        writer = open_table(self._classes, text, series=True)
        for name in self._list_parts():
            writer.writerows(self._read(name).to_pylist())

    def _write_parquet(self, file: BinaryIO) -> None:
        with parquet.ParquetWriter(file, self._schema, compression="zstd") as writer:
            for name in self._list_parts():
                writer.write_table(self._read(name))
