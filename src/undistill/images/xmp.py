"""XMP as it stands in a file: properties are read, taken out and put in, and every other byte stays as it was.

Parsed by expat, which reports where a tag stands; what has a DOCTYPE, the place of entity bombs, is not read on.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "
"""Names are those of expat: namespace, space, local name."""
_TAG = re.compile(rb"<(?:\"[^\"]*\"|'[^']*'|[^\"'>])*>")
_NAME = rb"[^\s:=\"'/>]+"
_ATTRIBUTE = re.compile(rb"\s(?:(" + _NAME + rb"):)?(" + _NAME + rb")\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
).encode()


class XmpError(Exception):
    """XMP that can't be read, or that we don't dare to."""


@dataclass
class _Element:
    """An element, and where its tags stand, in bytes: start to inside, end to stop."""

    name: str
    attributes: dict[str, str]
    start: int
    inside: int
    end: int = 0
    stop: int = 0
    texts: list[str] = field(default_factory=list)
    children: "list[_Element]" = field(default_factory=list)


@dataclass
class _Parsed:
    xmp: bytes
    elements: list[_Element]
    prefixes: dict[str, str]


def _parse(xmp: bytes) -> _Parsed:
    if xmp.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        xmp = xmp.decode("utf-16", "replace").encode()
    found = _Parsed(xmp, [], {})
    open_: list[_Element] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        start = parser.CurrentByteIndex
        tag = _TAG.match(xmp, start)
        if tag is None:
            raise XmpError("its tags can't be found")  # in another encoding than UTF-8
        element = _Element(name, attributes, start, tag.end())
        if open_:
            open_[-1].children.append(element)
        open_.append(element)
        found.elements.append(element)

    def end(_: str) -> None:
        element = open_.pop()
        if xmp[element.inside - 2 : element.inside] == b"/>":
            element.end = element.stop = element.inside
        else:
            element.end = parser.CurrentByteIndex
            element.stop = xmp.index(b">", element.end) + 1

    def text(data: str) -> None:
        if open_:
            open_[-1].texts.append(data)  # expat gives each line by itself

    def refuse(*_: object) -> None:
        raise XmpError("it has a DOCTYPE")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    parser.StartNamespaceDeclHandler = lambda prefix, uri: found.prefixes.setdefault(prefix or "", uri or "")
    try:
        parser.Parse(xmp.rstrip(b"\0"), True)
    except (expat.ExpatError, ValueError) as error:
        raise XmpError("it is broken") from error
    return found


def values_of(xmp: bytes, name: str) -> list[str]:
    """What a property, by its namespace, space and local name, is said to be.

    Raises:
        XmpError: it can't be read.
    """
    values = []
    for element in _parse(xmp).elements:
        values.append(element.attributes.get(name, ""))
        if element.name == name:
            values += ["".join(element.texts), element.attributes.get(f"{RDF}resource", "")]
    return [value.strip() for value in values if value.strip()]


def without(xmp: bytes, unwanted: Callable[[str], bool]) -> bytes:
    """XMP without these properties, by namespace, space and local name, and without descriptions that had but these.

    Raises:
        XmpError: it can't be read.
    """
    parsed = _parse(xmp)
    spans: list[tuple[int, int]] = []
    stop = 0
    for element in parsed.elements:  # in the order in which they begin
        if element.start < stop:
            continue  # in one that goes
        if unwanted(element.name) or _says_only(element, unwanted):
            spans.append((element.start, element.stop))
            stop = element.stop
            continue
        for attribute in _ATTRIBUTE.finditer(parsed.xmp, element.start, element.inside):
            prefix, local = ((part or b"").decode("utf-8", "replace") for part in attribute.groups())
            if prefix and unwanted(f"{parsed.prefixes.get(prefix, '')} {local}"):
                spans.append(attribute.span())
    kept, stop = [], 0
    for first, last in spans:
        kept.append(parsed.xmp[stop:first])
        stop = last
    return b"".join((*kept, parsed.xmp[stop:]))


def _says_only(element: _Element, unwanted: Callable[[str], bool]) -> bool:
    said = [child.name for child in element.children]
    said += [name for name in element.attributes if name not in ("about", f"{RDF}about")]
    return element.name == f"{RDF}Description" and bool(said) and all(map(unwanted, said))


def with_properties(xmp: bytes, prefixes: Mapping[str, str], properties: Mapping[str, str]) -> bytes:
    """XMP with a description more, at its end.

    Args:
        xmp: empty: a packet is begun.
        prefixes: to their namespaces.
        properties: prefix:name to values.

    Raises:
        XmpError: it can't be read, or is no XMP.
    """
    parsed = _parse(xmp or _EMPTY)
    root = next((element for element in parsed.elements if element.name == f"{RDF}RDF"), None)
    if root is None:
        raise XmpError("it holds no RDF")
    # All descriptions in a packet are of one thing, by whatever name.
    about = next(
        (name for each in root.children for key, name in each.attributes.items() if key in ("about", f"{RDF}about")), ""
    )
    spaces = "".join(f" xmlns:{prefix}={quoteattr(uri)}" for prefix, uri in {"rdf": RDF.strip(), **prefixes}.items())
    lines = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in properties.items())
    made = f"<rdf:Description{spaces} rdf:about={quoteattr(about)}>{lines}</rdf:Description>"
    if root.end < root.stop:
        return parsed.xmp[: root.end] + made.encode() + parsed.xmp[root.end :]
    tag = parsed.xmp[root.start : root.inside]  # <rdf:RDF .../>
    whole = tag.removesuffix(b"/>") + b">" + made.encode() + b"</" + tag[1:-2].split()[0] + b">"
    return parsed.xmp[: root.start] + whole + parsed.xmp[root.stop :]
