"""Writing what systemd, Compose and Kubernetes need to run a project's workers."""
