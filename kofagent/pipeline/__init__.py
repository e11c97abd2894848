"""Pipelines: what turns a configuration into running components, and the telemetry of the agent itself."""
