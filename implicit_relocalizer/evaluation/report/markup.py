# Copyright 2026 The implicit_relocalizer authors
# SPDX-License-Identifier: Apache-2.0
"""HTML elements; whatever text goes in is escaped when the page is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, tostring

Child = Element | str | None
_UNPRINTABLE = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')


def h(tag: str, *children: Child, **attributes: str) -> Element:
    """An element with texts and elements in it; `class_` and `data_x` stand for class, data-x."""
    names = {name: name.rstrip('_').replace('_', '-') for name in attributes}
    element = Element(tag, {names[name]: printable(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif child:
            last = element[-1] if len(element) else None
            if last is None:
                element.text = (element.text or '') + clean(child)
            else:
                last.tail = (last.tail or '') + clean(child)
    return element


def table(header: Sequence[Child], rows: Iterable[Sequence[Child]],
          class_: str = '') -> Element:
    """A table in a box that scrolls sideways; the first column names the rows."""
    labels = [cell if isinstance(cell, str) else '' for cell in header]
    body = [h('tr', *(h('th' if i == 0 else 'td', cell, data_label=labels[i],
                        **({'scope': 'row'} if i == 0 else {}))
                      for i, cell in enumerate(row))) for row in rows]
    return h('div', h(
        'table', h('thead', h('tr', *(h('th', cell, scope='col') for cell in header))),
        h('tbody', *body), class_=class_), class_='scroll', tabindex='0')


def clean(text: str, longest: int = 600) -> str:
    """A text without characters that HTML forbids, and not endless."""
    text = printable(text)
    return text if len(text) <= longest else text[:longest - 1] + '\u2026'


def printable(text: str) -> str:
    """A text without characters that HTML forbids."""
    return _UNPRINTABLE.sub('\ufffd', text)


def to_html(element: Element) -> str:
    """Escaped HTML in ASCII."""
    return tostring(element, encoding='us-ascii', method='html').decode('ascii')
