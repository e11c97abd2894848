"""What components share that read the Kubernetes API."""
