"""The story of a release as Prefect flows: the only place where Prefect is imported."""
