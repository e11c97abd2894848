"""The network as components share it: addresses, TLS, compression with limits, one HTTP client, server helpers."""
