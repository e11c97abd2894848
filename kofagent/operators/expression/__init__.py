"""Expressions of `if`, `expr`, routes and `EXPR(...)`: expr-lang (github.com/expr-lang/expr, docs/language-definition) as
stanza uses it, with `body`, `attributes`, `resource`, `timestamp`, `env("X")` (docs/types/expression.md).

    compile_expression('attributes.level == "error"').test(entry)

Text becomes tokens (`lexer`), tokens become a tree (`parser`, `ast`), and the tree becomes a Python closure (`compile`), with the
operators in `values` and the functions in `functions`. A name that nothing defines is nil, as upstream allows.
"""

from kofagent.operators.expression.compile import Expression, compile_expression
from kofagent.operators.expression.values import ExpressionError

__all__ = ["Expression", "ExpressionError", "compile_expression"]
