"""kofagent: an OpenTelemetry-compatible telemetry collector agent for KOF."""

__version__ = "0.1.0"
