"""What components are made of: the protocols, the registry, and the helpers that every component composes."""
