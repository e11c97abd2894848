"""`unquote`: removes the quotes of a Go string literal.

"..." and '.' have escapes, `...` has none.
"""

from __future__ import annotations

import ast
import re

from kofagent.operators.access import Access
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError, type_name
from kofagent.operators.field import MISSING
from kofagent.operators.operator import Transformer
from kofagent.operators.options import FieldConfig

_ESCAPE = r"\\(?:[abfnrtv\\]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})"
_DOUBLE = re.compile(rf'"(?:[^"\\\n]|\\"|{_ESCAPE})*"')
_SINGLE = re.compile(rf"'(?:[^'\\\n]|\\'|{_ESCAPE})'")


def unquote(text: str) -> str:
    """The text of a quoted Go literal; OperatorError when it is not one."""
    if len(text) >= 2 and text[0] == text[-1] == "`" and "`" not in text[1:-1]:
        return text[1:-1].replace("\r", "")
    if not _DOUBLE.fullmatch(text) and not _SINGLE.fullmatch(text):
        raise OperatorError("the value is not quoted")
    # \x and octal escapes are bytes in Go; made of bytes here too, they form UTF-8 again.
    out = bytearray()
    for piece in re.finditer(rf"\\['\"]|{_ESCAPE}|[^\\]", text[1:-1], re.DOTALL):
        part = piece[0]
        if part[0] != "\\":
            out += part.encode("utf-8", "replace")
        elif part[1] == "x":
            out.append(int(part[2:], 16))
        elif part[1].isdigit():
            out.append(int(part[1:], 8))
        elif part[1] in "uU":
            code = int(part[2:], 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise OperatorError("invalid escape sequence")
            out += chr(code).encode()
        else:
            out += str(ast.literal_eval(f'"{part}"')).encode()
    return out.decode("utf-8", "replace")


class Unquote(Transformer[FieldConfig]):
    """Removes quotes."""

    def transform(self, entry: Entry) -> None:
        value = self.config.field.get(entry)
        if value is MISSING:
            return
        if not isinstance(value, str):
            raise OperatorError(f"{type_name(value)} cannot be unquoted")
        self.config.field.set(entry, unquote(value))

    def access(self) -> Access | None:
        return self.by_options()


OPERATOR = Unquote
