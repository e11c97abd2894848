"""The embedded local region of `kofagent dev`: the APIs of a KOF regional cluster, in bounded memory, on loopback."""
