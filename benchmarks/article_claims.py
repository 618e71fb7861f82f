"""The article's claims, one by one, each with the measured difference, its interval and a verdict.

    lrlab study studies/article.toml
    python benchmarks/article_claims.py runs/article

A further study, as in `runs/article runs/schedules`, is asked about the gradients alone. Only complete runs count.
Writes the tables to benchmarks/results/ and into docs/article.md, which explains them, the picture to docs/figures/.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from article_answers import (
    Answer,
    multipliers,
    schedule_or_rate,
    towards_the_end,
    towards_the_output,
    whatever_the_multiplier,
)
from article_figures import draw
from article_trends import Study, read_study
from lrlab.report.style import to_png
from measuring import ROOT, environment, publish

TITLE = "The article's claims"
DOCS = ROOT / "docs"
CLAIMS = (
    "0.5 against 0.2",
    "The schedule matters more than the rate",
    "Gradients grow towards the output",
    "Gradients grow towards the end of the training",
    "The trends do not depend on the multiplier",
)


def answer(studies: Sequence[Study]) -> list[Answer]:
    """Test each claim on the first study, and those on gradients in every arm of all."""
    first = studies[0]
    return [
        multipliers(first),
        schedule_or_rate(first),
        towards_the_output(studies),
        towards_the_end(studies),
        whatever_the_multiplier(first),
    ]


def describe(study: Study) -> str:
    """Which runs of a study count, and what they were trained on."""
    num_runs = sum(len(runs) for runs in study.arms.values())
    left_out = f" Left out: {', '.join(study.left_out)}." if study.left_out else ""
    return (
        f"`{study.name}`: {num_runs} complete runs in {len(study.arms)} arms; {'; '.join(study.trained_on)}.{left_out}"
    )


def blocks(studies: Sequence[Study], answers: Sequence[Answer]) -> dict[str, str]:
    """Name -> Markdown of each part of the page that is written here."""
    verdicts = "\n".join(
        f"{number}. {title}.\n" + "\n".join(f"   - {line}" for line in found.verdicts)
        for number, (title, found) in enumerate(zip(CLAIMS, answers, strict=True), 1)
    )
    runs = "\n".join(f"- {describe(study)}" for study in studies)
    return {"verdicts": verdicts, "runs": runs, **{f"claim {i}": found.page for i, found in enumerate(answers, 1)}}


def fill(page: str, parts: Mapping[str, str]) -> str:
    """Put each part between its two marks, <!-- name --> and <!-- /name -->, in place of what stands there.

    Raises: ValueError if the page lacks the marks of one.
    """
    for name, part in parts.items():
        marks = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
        filled = f"\n{part}\n\n".replace("\\", r"\\")  # a template
        page, num_found = marks.subn(rf"\1{filled}\2", page)
        if num_found != 1:
            raise ValueError(
                f"The page must have <!-- {name} --> and <!-- /{name} --> once, it has them {num_found} times."
            )
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "studies", type=Path, nargs="+", metavar="STUDY", help="folder of a study; the first has the article's arms"
    )
    studies = [read_study(path) for path in parser.parse_args().studies]
    answers = answer(studies)
    parts = blocks(studies, answers)
    page = "\n\n".join(
        [parts["verdicts"], parts["runs"], *(f"## {n}. {t}\n\n{parts[f'claim {n}']}" for n, t in enumerate(CLAIMS, 1))]
    )
    print(page)
    document = {
        "claims": {title: asdict(found)["estimates"] for title, found in zip(CLAIMS, answers, strict=True)},
        "runs": {study.name: asdict(study)["arms"] for study in studies},
    }
    publish("article-claims", title=TITLE, page=page, document=document, facts=environment())
    (DOCS / "article.md").write_text(fill((DOCS / "article.md").read_text(), parts))
    (DOCS / "figures" / "article-claims.png").write_bytes(to_png(draw(studies[0])))
    print("written: docs/article.md and docs/figures/article-claims.png")


if __name__ == "__main__":
    main()
