"""Spreadsheets in and out. Nothing that a candidate wrote may run when a sheet is opened."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from coach.batch.fields import Raw
from coach.errors import UsageError

MAX_UNPACKED = 4 * 1024**3
EXCEL_ROWS = 1_048_576
EXCEL_CHARS = 32_767
# What spreadsheet programs take for the start of a formula, full-width forms included (OWASP, CSV injection).
_FORMULA = re.compile(r"^\s*[=+\-@＝＋－＠\t\r|]")
_NUMBER = re.compile(r"^[+-]?\d+(\.\d+)?$")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def safe_cell(value: Any) -> Any:
    """Text that would be read as a formula gets an apostrophe in front; numbers stay numbers.

    >>> safe_cell('=HYPERLINK("http://x")'), safe_cell("-3.5"), safe_cell("d_k")
    ('\\'=HYPERLINK("http://x")', '-3.5', 'd_k')
    """
    if not isinstance(value, str):
        return value
    value = _CONTROL.sub("", value)
    return f"'{value}" if _FORMULA.match(value) and not _NUMBER.match(value) else value


def read_xlsx(path: Path, name: str) -> Iterator[Raw]:
    """Rows of the first sheet and of every other sheet with the same header, streamed; a formula gives its stored value."""
    from openpyxl import load_workbook  # 0.2 s
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(i.file_size for i in archive.infolist()) > MAX_UNPACKED:
                raise UsageError(f"{path}: unpacks to more than 4 GiB", "split it, or save it as CSV")
        book = load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError) as e:
        raise UsageError(f"{path}: not an .xlsx workbook ({e})", "save it again as .xlsx or CSV") from e
    try:
        first: list[str] | None = None
        for sheet in book.worksheets:
            header: list[str] | None = None
            for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
                if all(c is None or c == "" for c in cells):
                    continue
                if header is None:
                    header = [
                        str(c).strip() if c is not None else f"column {i}" for i, c in enumerate(cells, 1)
                    ]
                    first = first or header
                    if header != first:
                        break
                    continue
                values: dict[str, Any] = {}
                for column, cell in zip(header, cells, strict=False):
                    values.setdefault(column, cell)
                yield Raw(f"{name}#{sheet.title}!{number}", values)
    except Exception as e:
        if isinstance(e, UsageError | GeneratorExit):
            raise
        raise UsageError(f"{path}: the workbook is damaged: {e}", "save it again as .xlsx or CSV") from e
    finally:
        book.close()


def write_xlsx(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Streamed to disk; more rows than one sheet holds go on in the next. Formulas are escaped."""
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet: Any = None
    left = 0
    for row in rows:
        if left == 0:
            sheet = book.create_sheet(f"grades{len(book.worksheets) + 1}" if book.worksheets else "grades")
            sheet.freeze_panes = "A2"
            sheet.append([safe_cell(h) for h in header])
            left = EXCEL_ROWS - 1
        cells = []
        for value in row:
            value = safe_cell(value)
            if isinstance(value, str):
                value = value if len(value) <= EXCEL_CHARS else value[: EXCEL_CHARS - 1] + "…"
            cells.append(value)
        sheet.append(cells)
        left -= 1
    if sheet is None:
        book.create_sheet("grades").append(list(header))
    book.save(path)
