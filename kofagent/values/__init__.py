"""`collectors-values.yaml` of KOF to collector configuration: Helm's merge rules, one file per generation of the chart."""

from kofagent.values.load import load_values
from kofagent.values.render import GENERATIONS, Rendered, render_values

__all__ = ["GENERATIONS", "Rendered", "load_values", "render_values"]
