"""A comparison as a JSON document and as rows of a CSV file: all numbers, in the unit of run.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from lrlab.compare.comparison import Comparison
from lrlab.compare.differences import Difference
from lrlab.compare.notes import notes
from lrlab.compare.sentences import race_sentence, sentence
from lrlab.compare.statistics import is_sign_flip_exact, sign_flip_floor
from lrlab.runs.storage import plain, write_whole

_BEGINS_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def to_document(comparison: Comparison) -> dict[str, Any]:
    """Return everything that was found, as JSON can hold it; an accuracy is a share, 1.0 at most."""
    document = {
        "measure": comparison.measure.name,
        "control": comparison.control,
        "num_tested": comparison.num_tested,
        "selections": [asdict(selection) for selection in comparison.selections],
        "arms": [asdict(arm) for arm in comparison.arms],
        "differences": [
            _difference(found) | {"sentence": sentence(found, comparison)} for found in comparison.differences
        ],
        "times": [asdict(time) for time in comparison.times],
        "races": [asdict(race) | {"sentence": race_sentence(race, comparison)} for race in comparison.races],
        "profiles": [asdict(profile) for profile in comparison.profiles],
        "notes": notes(comparison),
    }
    return {name: plain(value) for name, value in document.items()}


def _difference(found: Difference) -> dict[str, Any]:
    described = asdict(found)
    for name in ("interval", "bootstrap"):
        low, high = described.pop(name) or (None, None)
        described |= {f"{name}_low": low, f"{name}_high": high}
    return described | {
        "num_seeds": found.num_seeds,
        "num_above": found.num_above,
        "sign_flip_exact": is_sign_flip_exact(found.num_seeds),
        "sign_flip_floor": sign_flip_floor(found.num_seeds) if found.num_seeds else None,
    }


def write_csv(path: Path | str, comparison: Comparison) -> None:
    """Write one row for each pair, lists within a cell by spaces, and text as no spreadsheet takes for a formula.

    Raises: StorageError if it cannot be written.
    """
    races = {(pair.task, pair.arm, pair.reference): asdict(pair.race) for pair in comparison.races}
    rows = []
    for found in comparison.differences:
        race = races.get((found.task, found.arm, found.reference), {})
        row = {"measure": comparison.measure.name, **plain(_difference(found))}
        row |= {f"target_{name}": value for name, value in race.items()}
        rows.append({name: _cell(value) for name, value in row.items()})
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(Path(path), text.getvalue().encode())


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return _no_formula(value)
    if not isinstance(value, list):
        return value
    if not any(isinstance(item, Mapping) for item in value):
        return " ".join(map(str, value))
    return _no_formula(" ".join(f"{item['arm']}:{item['seed']}:{item['reason'].replace(' ', '_')}" for item in value))


def _no_formula(text: str) -> str:
    """Put ' before text that a spreadsheet would compute, as OWASP advises: the folder of an arm has any name."""
    return f"'{text}" if text.startswith(_BEGINS_FORMULA) else text
