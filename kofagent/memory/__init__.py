"""Memory that is accounted for: what the process uses, and what the agent remembers on purpose."""
