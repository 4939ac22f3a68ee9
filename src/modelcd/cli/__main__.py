"""`python -m modelcd.cli`."""

from modelcd.cli import main

main()
