"""The stack on a server, around docker-compose.yml: secrets, health checks, backup, `bincount doctor --server`."""
