"""Settings of the documentation: Markdown pages, numpydoc docstrings, tables from the schema."""

from importlib import metadata

import pyarrow as pa
from docutils import nodes
from docutils.parsers.rst import Directive

from risk import schema

project = "Bulkhead"
author = "The Bulkhead founders"
copyright = "2026, The Bulkhead founders, Apache-2.0"
release = version = metadata.version("bulkhead")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Single backquotes in docstrings are code, ours or not; nothing is looked up on other sites.
default_role = "code"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False

exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Bulkhead {release}"


class SchemaTable(Directive):
    """Columns of a schema of `risk.schema`, as the code has them."""

    required_arguments = 1

    def run(self):
        columns = getattr(schema, self.arguments[0])
        if isinstance(columns, pa.Schema):
            rows = [self._column(field) for field in columns]
            return [_table(("column", "type", "unit", "meaning"), rows)]
        rows = [(name, kind.dtype, kind.units, kind.meaning) for name, kind in columns.items()]
        return [_table(("variable", "type", "unit", "meaning"), rows)]

    @staticmethod
    def _column(field):
        text = {key.decode(): value.decode() for key, value in field.metadata.items()}
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        return (
            field.name,
            f"{kind}{', null' if field.nullable else ''}",
            text["unit"],
            text["meaning"],
        )


def _table(head, rows):
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *(_row(row, first=nodes.literal) for row in rows))
    return nodes.table("", group)


def _row(cells, first=nodes.inline):
    entries = []
    for at, text in enumerate(cells):
        kind = first if at == 0 else nodes.inline
        entries.append(nodes.entry("", nodes.paragraph("", "", kind(text, text))))
    return nodes.row("", *entries)


def setup(app):
    """Make the table of a schema a directive: ``{schema} POSITIONS``."""
    app.add_directive("schema", SchemaTable)
    return {"parallel_read_safe": True}
