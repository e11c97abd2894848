"""The stanza operators (contrib pkg/stanza) and the compiler that makes one function of a chain of them. No I/O."""
