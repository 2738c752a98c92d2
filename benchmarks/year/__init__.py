"""A year of payments with fraud that changes: daily against monthly retraining."""
