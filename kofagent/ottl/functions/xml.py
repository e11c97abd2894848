"""XML: reading, changing, and turning it into maps."""

from __future__ import annotations

from typing import Any

from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import converter


def _engine() -> Any:
    try:
        from kofagent.ottl import xmltree
    except ImportError:
        raise EvaluationError("it needs the package lxml: pip install 'kofagent[ottl]'") from None
    return xmltree


def _path(x_path: str | None = None, **_: Any) -> None:
    engine = _engine()
    if x_path is not None:
        engine.check_path(x_path)


@converter('GetXML(target S, x_path "s")', check=_path)
def get_xml(target: str, x_path: str) -> str:
    """What an XPath selects, as XML, one behind the other."""
    return str(_engine().get(target, x_path))


@converter('RemoveXML(target S, x_path "s")', check=_path)
def remove_xml(target: str, x_path: str) -> str:
    """The XML without what an XPath selects."""
    return str(_engine().remove(target, x_path))


@converter('InsertXML(target S, x_path "s", sub_document S)', check=_path)
def insert_xml(target: str, x_path: str, sub_document: str) -> str:
    """The XML with the elements of another at the end of each element that an XPath selects."""
    return str(_engine().insert(target, x_path, sub_document))


@converter("ParseXML(target S)", check=_path)
def parse_xml(target: str) -> Any:
    """The element as a map of tag, attributes, content and children."""
    return _engine().to_map(target)


@converter("ParseSimplifiedXML(target S)", check=_path)
def parse_simplified_xml(target: str) -> Any:
    """Elements by their names, texts as values; attributes are left out."""
    return _engine().simplified(target)


@converter('ConvertAttributesToElementsXML(target S, x_path? "s")', check=_path)
def convert_attributes_to_elements_xml(target: str, x_path: str | None) -> str:
    """The XML with attributes as elements."""
    return str(_engine().attributes_to_elements(target, x_path))


@converter('ConvertTextToElementsXML(target S, x_path? "s", element_name? "s"="value")', check=_path)
def convert_text_to_elements_xml(target: str, x_path: str | None, element_name: str) -> str:
    """The XML with texts that stand beside elements as elements."""
    return str(_engine().text_to_elements(target, x_path, element_name))
