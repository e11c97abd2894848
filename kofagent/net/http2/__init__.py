"""HTTP/2 for a gRPC server: frames, one connection with its calls, and what all of it may cost."""
