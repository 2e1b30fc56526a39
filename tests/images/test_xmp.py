from time import process_time
from xml.etree import ElementTree

import pytest

from undistill.images.xmp import XmpError, values_of, with_properties, without

SPACE = {"x": "urn:x:1/"}
OTHER = (
    b'<?xpacket begin="" id="W5M0"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="uuid:7" xmlns:dc="urn:dc" '
    b'xmlns:y="urn:x:1/" y:one="1 &gt; 0" dc:creator="Ada > all"><dc:title>A &amp; B</dc:title><y:two/><dc:rights/>'
    b'<y:three y:four="4"><dc:in/></y:three></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def ours(name: str) -> bool:
    return name.startswith("urn:x:1/ ")


def test_what_is_put_in_can_be_read_and_taken_out_again() -> None:
    for before in (b"", OTHER):
        after = with_properties(before, SPACE, {"x:head": 'flux<1> & "co"'})
        ElementTree.fromstring(after)
        assert values_of(after, "urn:x:1/ head") == ['flux<1> & "co"']
        if before:
            assert without(after, lambda name: name == "urn:x:1/ head") == before  # every other byte as it was
            assert after.count(b'about="uuid:7"') == 2


def test_elements_and_attributes_go_and_their_neighbours_stay() -> None:
    rest = without(OTHER, ours)
    assert rest == OTHER.replace(b' y:one="1 &gt; 0"', b"").replace(b"<y:two/>", b"").replace(
        b'<y:three y:four="4"><dc:in/></y:three>', b""
    )
    assert values_of(OTHER, "urn:x:1/ one") == ["1 > 0"]
    assert values_of(rest, "urn:dc title") == ["A & B"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_becomes_utf_8(encoding: str) -> None:
    xmp = ("\ufeff" + OTHER.decode()).encode(encoding)
    assert values_of(with_properties(xmp, SPACE, {"x:head": "ö"}), "urn:x:1/ head") == ["ö"]


BOMB = (
    b'<!DOCTYPE a [<!ENTITY b "' + b"b" * 1000 + b'">'
    + b"".join(b'<!ENTITY b%d "%s">' % (number, b"&b;" * 100) for number in range(9))
    + b"]><a>&b8;</a>"
)  # fmt: skip


@pytest.mark.parametrize("xmp", [BOMB, b"<a>", b"\xff\x00", b"<a><b></a></b>", OTHER[:300], b"no XML"])
def test_bombs_and_broken_ones_are_not_read(xmp: bytes) -> None:
    begun = process_time()
    for call in (lambda: values_of(xmp, "a"), lambda: without(xmp, ours), lambda: with_properties(xmp, SPACE, {})):
        with pytest.raises(XmpError):
            call()
    assert process_time() - begun < 1


def test_what_is_no_rdf_is_refused_and_an_empty_one_filled() -> None:
    with pytest.raises(XmpError, match="no RDF"):
        with_properties(b"<a/>", SPACE, {"x:a": "1"})
    empty = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
    filled = with_properties(empty, SPACE, {"x:a": "1"})
    ElementTree.fromstring(filled)
    assert values_of(filled, "urn:x:1/ a") == ["1"]


BEGIN = OTHER[: OTHER.index(b"<rdf:Description")]
LONG = {
    "lines of text": b"<y:one xmlns:y='urn:x:1/'>" + b"\n" * 1_000_000 + b"end</y:one>",
    "marks": b'<rdf:li xmlns:y="urn:x:1/" y:one="1"/>' * 25_000,
    "deep": b"<rdf:li>" * 20_000 + b"</rdf:li>" * 20_000,
    "one long attribute": b"<rdf:li a='" + b" b:c  " * 150_000 + b"'/>",
}


@pytest.mark.parametrize("inside", LONG.values(), ids=LONG)
def test_long_ones_take_as_long_as_they_are_long(inside: bytes) -> None:
    """What was quadratic took minutes for each of these."""
    xmp = BEGIN + inside + b"</rdf:RDF></x:xmpmeta>"
    begun = process_time()
    assert len(values_of(xmp, "urn:x:1/ one")) == {b"y": 1}.get(inside[1:2], xmp.count(b"y:one"))
    assert len(without(xmp, ours)) == len(xmp) - {b"y": len(inside)}.get(inside[1:2], 10 * xmp.count(b"y:one"))
    with_properties(xmp, SPACE, {"x:head": "a"})
    assert process_time() - begun < 10


def test_what_looks_like_an_attribute_in_another_s_value_stays() -> None:
    xmp = OTHER.replace(b"<dc:rights/>", b"""<dc:rights a=" y:one='1' " y:one = '2'/>""")
    assert b"""<dc:rights a=" y:one='1' "/>""" in without(xmp, ours)
