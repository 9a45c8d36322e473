"""An HTML page of its own: elements that escape whatever is put into them, and the looks of the page.

The page loads nothing, from nowhere: its policy forbids it, images are inside, and it has no script.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from xml.etree.ElementTree import Element, tostring

Child = Element | str

# Pixels of a screen to a point of a paper figure: its letters become as large as the page's.
SCALE = 1.6

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --soft: #5c5c5c; --rule: #d0d0d0; --page: #ffffff; --card: #f6f6f4;
  --good: #00664a; --bad: #a33c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #a5a5a5; --rule: #444444; --page: #161616;
  --card: #212121; --good: #4fc79b; --bad: #f0935a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-top: .8rem; border-top: 2px solid var(--ink); }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p, li { max-width: 50rem; }
ul { padding-left: 1.2rem; }
li { margin: .2rem 0; }
p + ul { margin-top: -.6rem; }
a { color: inherit; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .82rem; font-variant-numeric: tabular-nums;
  border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
caption { text-align: left; font-weight: 600; padding-bottom: .35rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; white-space: nowrap; }
td.text { white-space: normal; }
th { border-bottom: 1px solid var(--ink); font-weight: 600; }
td { border-bottom: 1px solid var(--rule); }
tr:last-child td { border-bottom: 0; }
.right { text-align: right; }
.better { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
figure { margin: 1.2rem 0 1.8rem; }
figure img { display: block; max-width: 100%; height: auto; background: #ffffff; padding: .6rem; border-radius: .3rem; }
figcaption { margin-top: .35rem; }
pre { background: var(--card); padding: .8rem 1rem; border-radius: .3rem; overflow-x: auto; font-size: .85rem;
  line-height: 1.45; }
code { font-family: ui-monospace, "Cascadia Mono", Menlo, "DejaVu Sans Mono", monospace; }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
@media (prefers-color-scheme: dark) { figure img { filter: brightness(.9); } }
@media print {
  :root { --ink: #000000; --soft: #444444; --rule: #bbbbbb; --page: #ffffff; --card: #ffffff; --good: #00664a; --bad: #a33c00; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure img { filter: none; padding: 0; }
  table { font-size: 7pt; }
  th, td { white-space: normal; padding-right: .5rem; }
  .right { white-space: nowrap; }
  figure, pre, tr { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  .wide, pre { overflow: visible; }
  pre { white-space: pre-wrap; border: 1px solid var(--rule); }
  nav, details { display: none; }
}
"""


def element(tag: str, *children: Child, **attributes: str) -> Element:
    """An element with its children in order; ``class_`` is the attribute ``class``."""
    found = Element(tag, {name.rstrip("_"): _printable(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            found.append(child)
        elif len(found):
            found[-1].tail = (found[-1].tail or "") + _printable(child)
        else:
            found.text = (found.text or "") + _printable(child)
    return found


def image(svg: bytes, words: str) -> Element:
    """A picture inside the page; ``words`` for who does not see it."""
    source = f"data:image/svg+xml;base64,{b64encode(svg).decode()}"
    width = re.search(rb'<svg[^>]* width="([0-9.]+)pt"', svg)
    return element("img", src=source, alt=words, **({"width": f"{SCALE * float(width[1]):.0f}"} if width else {}))


def page(title: str, content: Iterable[Child]) -> bytes:
    """The whole page, UTF-8."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", **{"http-equiv": "Content-Security-Policy", "content": POLICY}),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", STYLE),
    )
    whole = element("html", head, element("body", *content), lang="en")
    return b"<!doctype html>\n" + tostring(whole, encoding="unicode", method="html").encode(errors="replace") + b"\n"


def _printable(text: str) -> str:
    """Without controls, but for line feeds: names come from files, and files from anybody."""
    return "".join(character for character in text if character.isprintable() or character == "\n")
