"""Feature state on Valkey or Redis, for as many replicas as there are."""
