"""The stack on a server, around docker-compose.yml: secrets, health, what `bincount doctor --server` looks at."""
