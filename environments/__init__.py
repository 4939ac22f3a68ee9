"""Where adapters meet ports: one file a kind of place.  Nothing else imports an adapter."""
