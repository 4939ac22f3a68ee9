"""The verbs over HTTP on the loopback, and the reconciler that runs beside them."""
