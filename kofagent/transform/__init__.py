"""Changing and writing telemetry: attribute actions, match lists, resources, metric writers."""
