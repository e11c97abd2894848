"""Memory that is accounted for: what the process uses, what is in flight, and what is remembered."""
