"""What the XML functions do, by lxml: no network, no entities, no huge trees, and texts written as Go writes them."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from kofagent.ottl.errors import EvaluationError

# By its name, so that mypy does not ask for it where the extra is not installed.
etree: Any = import_module("lxml.etree")
MAX_DEPTH = 200


def check_path(path: str) -> Any:
    """A compiled XPath. EvaluationError where it is none that gives nodes."""
    try:
        return etree.XPath(path)
    except etree.XPathError:
        raise EvaluationError(f"invalid XPath {path!r}") from None


def _parse(text: str) -> list[Any]:
    """The top-level nodes of a document or a piece of one."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False, strip_cdata=False, load_dtd=False)
    body = re.sub(r"\A\s*<\?xml[^>]*\?>", "", text)
    if "<!DOCTYPE" in body or "<!ENTITY" in body:
        raise EvaluationError("XML with a document type is not read")
    try:
        root = etree.fromstring(f"<kofagent-root>{body}</kofagent-root>".encode("utf-8", "replace"), parser)
    except (etree.XMLSyntaxError, ValueError):
        raise EvaluationError("the text is not XML") from None
    return [root]


class Document:
    """A text as a tree below a root of our own, so that pieces without one top element can be changed, too."""

    def __init__(self, text: str) -> None:
        (self.root,) = _parse(text)

    def find(self, path: str) -> list[Any]:
        """The nodes that an XPath selects: elements, comments, texts, attributes. `/` is the document."""
        if path == "/":
            return [self.root]
        nodes: dict[int, Any] = {}
        for part in _alternatives(path):
            try:
                found = self.root.getroottree().xpath(re.sub(r"^(\s*\(*\s*)/(?=[^/])", r"\1/kofagent-root/", part))
            except etree.XPathError:
                raise EvaluationError(f"invalid XPath {path!r}") from None
            if not isinstance(found, list):
                raise EvaluationError("the XPath selects no nodes")
            nodes |= {id(node): node for node in found if node is not self.root and id(node) not in nodes}
        return list(nodes.values())

    def __str__(self) -> str:
        return _inner(self.root, 0)


def _alternatives(path: str) -> list[str]:
    """The paths between the `|` of a union, whose nodes upstream gives in this order."""
    parts, depth, quote, begin = [], 0, "", 0
    for at, char in enumerate(path):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char == "|" and depth == 0:
            parts.append(path[begin:at])
            begin = at + 1
    return [*parts, path[begin:]]


def _inner(element: Any, depth: int) -> str:
    parts = [escape(element.text or "")]
    for child in element:
        parts += [_outer(child, depth + 1), escape(child.tail or "")]
    return "".join(parts)


def _outer(node: Any, depth: int = 0) -> str:
    if depth > MAX_DEPTH:
        raise EvaluationError(f"XML nested deeper than {MAX_DEPTH} levels")
    if node.tag is etree.Comment:
        return f"<!--{_plain(node.text)}-->"
    if node.tag is etree.ProcessingInstruction:
        return f"<?{node.target} {_plain(node.text)}?>"
    name = _name(node)
    attributes = "".join(f" {key}={_quoted(value)}" for key, value in node.attrib.items())
    return f"<{name}{attributes}>{_inner(node, depth)}</{name}>"


def _plain(text: object) -> str:
    return text if isinstance(text, str) else ""


def _quoted(value: str) -> str:
    return quoteattr(value, {"'": "&#39;", '"': "&#34;"})


def _name(node: Any) -> str:
    local = etree.QName(node).localname
    return f"{node.prefix}:{local}" if node.prefix else str(local)


def _is_element(node: Any) -> bool:
    return etree.iselement(node) and isinstance(node.tag, str)


def get(text: str, path: str) -> str:
    """What an XPath selects, one behind the other."""
    parts = []
    for node in Document(text).find(path):
        parts.append(_outer(node) if etree.iselement(node) else str(node))
    return "".join(parts)


def _without(node: Any) -> None:
    """Takes a node out; the text behind it stays."""
    parent = node.getparent()
    tail, before = node.tail, node.getprevious()
    if tail:
        if before is not None:
            before.tail = (before.tail or "") + tail
        else:
            parent.text = (parent.text or "") + tail
    parent.remove(node)


def remove(text: str, path: str) -> str:
    """The text without what an XPath selects."""
    document = Document(text)
    for node in document.find(path):
        if etree.iselement(node):
            if node.getparent() is not None:
                _without(node)
        elif getattr(node, "is_attribute", False):
            node.getparent().attrib.pop(node.attrname, None)
        elif getattr(node, "is_text", False):
            node.getparent().text = None
        elif getattr(node, "is_tail", False):
            node.getparent().tail = None
    return str(document)


def insert(text: str, path: str, sub_document: str) -> str:
    """The text with the elements of another one behind the last child of every element that an XPath selects."""
    document = Document(text)
    (sub,) = _parse(sub_document)
    if not any(_is_element(child) for child in sub):
        raise EvaluationError("InsertXML: the document to insert has no element")
    for node in document.find(path):
        if not _is_element(node):
            raise EvaluationError("InsertXML: the XPath selects what is no element")
        for child in _parse(sub_document)[0]:
            node.append(child)
    return str(document)


def _top(text: str) -> Any:
    (root,) = _parse(text)
    elements = [child for child in root if _is_element(child)]
    if len(elements) != 1 or (root.text or "").strip() or (elements[0].tail or "").strip():
        raise EvaluationError("not an XML document with one element at its top")
    return elements[0]


def to_map(text: str) -> dict[str, Any]:
    """`tag`, `attributes`, `content`, `children`; what is empty is not there."""
    return _element(_top(text), 0)


def _element(node: Any, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise EvaluationError(f"XML nested deeper than {MAX_DEPTH} levels")
    found: dict[str, Any] = {"tag": _name(node)}
    if node.attrib:
        found["attributes"] = {etree.QName(key).localname: value for key, value in node.attrib.items()}
    content = "".join([node.text or "", *(child.tail or "" for child in node)]).strip()
    if content:
        found["content"] = content
    children = [_element(child, depth + 1) for child in node if _is_element(child)]
    if children:
        found["children"] = children
    return found


def simplified(text: str) -> dict[str, Any]:
    """Elements by their names, repeated ones as lists, texts as values; attributes are left out."""
    (root,) = _parse(text)
    value = _simple(root, 0)
    return value if isinstance(value, dict) else {}


def _simple(node: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise EvaluationError(f"XML nested deeper than {MAX_DEPTH} levels")
    children = [child for child in node if _is_element(child)]
    if not children:
        return node.text.strip() if node.text and node.text.strip() else None
    found: dict[str, Any] = {}
    names = [_name(child) for child in children]
    times = Counter(names)
    for name, child in zip(names, children, strict=True):
        value = _simple(child, depth + 1)
        if times[name] > 1:
            found.setdefault(name, [])
            if value is not None:
                found[name].append(value)
        elif value is not None:
            found[name] = value
    return found


def attributes_to_elements(text: str, path: str | None) -> str:
    """Attributes of the elements that an XPath selects (default: all) as elements of their names."""
    document = Document(text)
    for node in document.find(path or "//@*/.."):
        if not _is_element(node):
            node = node.getparent() if hasattr(node, "getparent") else None
        if node is None:
            continue
        for key, value in list(node.attrib.items()):
            child = etree.SubElement(node, key)
            child.text = value
            del node.attrib[key]
    return str(document)


def text_to_elements(text: str, path: str | None, name: str) -> str:
    """Texts beside elements, in what an XPath selects (default: all), as elements of that name."""
    document = Document(text)
    roots = document.find(path or "/")
    for root in roots:
        for node in [e for e in root.iter() if _is_element(e)]:
            if node is document.root or not any(_is_element(child) for child in node):
                continue
            _wrap(node, name)
    return str(document)


def _wrap(node: Any, name: str) -> None:
    for child in list(node):
        if child.tail and child.tail.strip():
            new = etree.Element(name)
            new.text, child.tail = child.tail, None
            child.addnext(new)
    if node.text and node.text.strip():
        new = etree.Element(name)
        new.text, node.text = node.text, None
        node.insert(0, new)
