"""Directives for what the program knows about itself: every verb's help, and every key of the configuration."""

import io
from collections.abc import Iterator
from typing import Any, get_args

from docutils import nodes
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import lrlab
from lrlab.cli.app import app as program
from lrlab.cli.ask import data_app
from lrlab.config import RunConfig, StudyConfig, TuneConfig
from lrlab.config.rates import MeasuredRate, PlannedRate
from lrlab.config.schedules import SCHEDULES, TorchSchedule


class Verbs(SphinxDirective):
    """A section for each verb, with what `--help` says of it."""

    def run(self) -> list[nodes.Node]:
        """Make the sections."""
        verbs = [[name] for name in program if not name.startswith("-") and name != "data"]
        verbs += [["data", name] for name in data_app if not name.startswith("-")]
        return [_section(f"lrlab {' '.join(verb)}", [_literal(help_of(verb))]) for verb in verbs]


def help_of(verb: list[str]) -> str:
    """What the program says to --help."""
    page = io.StringIO()
    program.help_print(verb, console=Console(file=page, width=88))
    return page.getvalue().strip()


class Keys(SphinxDirective):
    """A section for each table of the configuration: keys, defaults, meanings."""

    def run(self) -> list[nodes.Node]:
        """Make the sections."""
        tables = {
            name: field.annotation
            for name, field in RunConfig.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        }
        top = {name: field for name, field in RunConfig.model_fields.items() if name not in {*tables, "schedule"}}
        found = [_section("At the top", [_keys(top)])]
        found += [_table(f"[{name}]", table, prefix=f"{name}.") for name, table in tables.items()]
        schedules = {**SCHEDULES, "torch:<Class>": TorchSchedule}
        found += [_table(f'[schedule] name = "{name}"', table, prefix="schedule.") for name, table in schedules.items()]
        found += [
            _table(f"A value of [layer_rates]: {kind}", table)
            for kind, table in (("planned", PlannedRate), ("measured", MeasuredRate))
        ]
        return [
            *found,
            _table("A study file", StudyConfig),
            _table("[tune] of a study file", TuneConfig, prefix="tune."),
        ]


class Names(SphinxDirective):
    """The names that `lrlab` itself has, each with where it is at home."""

    def run(self) -> list[nodes.Node]:
        """Make the list."""
        lines = [f"- {{py:obj}}`lrlab.{name} <{home}.{name}>`" for name, home in sorted(lrlab._HOMES.items())]
        return self.parse_text_to_nodes("\n".join(lines))


def _table(title: str, table: Any, *, prefix: str = "") -> nodes.Node:
    says = nodes.paragraph("", table.__doc__.splitlines()[0])
    return _section(title, [says, _keys(table.model_fields, prefix=prefix)])


def _keys(fields: dict[str, FieldInfo], *, prefix: str = "") -> nodes.Node:
    rows = nodes.definition_list()
    for name, field in fields.items():
        term = nodes.term("", "", nodes.literal("", f"{prefix}{name}"), nodes.Text(_default(field)))
        rows += nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", field.description or "")))
    return rows


def _default(field: FieldInfo) -> str:
    """The words that may be chosen, and the default, as help has them; nothing where there is none to show."""
    choices = [choice for part in _parts(field.annotation) for choice in get_args(part) if isinstance(choice, str)]
    listed = f"  {' | '.join(choices)}" if len(choices) > 1 else ""
    if field.is_required():
        return f"{listed}  (required)"
    if field.default is None or field.default_factory is not None or isinstance(field.default, BaseModel):
        return listed
    return f"{listed}  [{str(field.default).lower() if isinstance(field.default, bool) else field.default}]"


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _literal(text: str) -> nodes.Node:
    return nodes.literal_block(text, text, language="text")


def _section(title: str, body: list[nodes.Node]) -> nodes.Node:
    return nodes.section("", nodes.title("", title), *body, ids=[nodes.make_id(title)], names=[title])


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    for name, directive in (("verbs", Verbs), ("keys", Keys), ("names", Names)):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
