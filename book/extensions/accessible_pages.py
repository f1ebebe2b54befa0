"""Mend in the finished pages what their makers get wrong for a screen reader.

Sphinx 7 writes a parameter list over several lines as a definition list without terms, and a
bibliography as a list whose children are no list items. Both are read out as broken lists, and
axe-core counts them as serious and critical faults (rules `definition-list`,
`aria-required-children`). The pages look the same before and after.
"""

from __future__ import annotations

import re
from typing import Any

PARAMETERS = re.compile(r"<dl>\n((?:<dd>.*</dd>\n)+)</dl>")
PARAMETER = re.compile(r"<dd>(.*)</dd>")


def without_broken_lists(body: str) -> str:
    """HTML of a page in which those two kinds of list are plain blocks."""
    body = PARAMETERS.sub(
        lambda found: PARAMETER.sub(r'<span class="sig-line">\1</span>', found.group(1)), body
    )
    body = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    return body.replace(' role="doc-biblioentry"', "")


def process(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Sphinx's `html-page-context`: the body that is about to be written."""
    if "body" in context:
        context["body"] = without_broken_lists(context["body"])


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
