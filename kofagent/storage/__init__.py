"""What holds data: sending queues, retry, the memory budget, checkpoints."""
