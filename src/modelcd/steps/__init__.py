"""What modelcd does, as plain functions over ports: no Prefect, no thresholds, no choice of technology."""
