"""Pipelines: the protocols components implement, and what turns a configuration into running pipelines."""
