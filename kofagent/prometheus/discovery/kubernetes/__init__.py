"""`kubernetes_sd_configs`: targets from a Kubernetes API (prometheus.io, kubernetes_sd_config)."""
