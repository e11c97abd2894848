"""The embedded local region of `kofagent dev`: what a KOF regional cluster takes and answers, bounded, in memory, on loopback."""
