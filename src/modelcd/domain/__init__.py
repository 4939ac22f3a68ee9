"""What modelcd knows, without doing anything: standard library (and numpy in the judge), no I/O, clock or chance."""
