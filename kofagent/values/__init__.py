"""Values of KOF to collector configuration: Helm's merge rules, and what each generation of the chart makes of them."""

from kofagent.values.load import load_values
from kofagent.values.render import GENERATIONS, render_values
from kofagent.values.rendered import Rendered

__all__ = ["GENERATIONS", "Rendered", "load_values", "render_values"]
