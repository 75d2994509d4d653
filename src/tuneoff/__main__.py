"""`python -m tuneoff` is the `tuneoff` command."""

from tuneoff.cli.main import main

main()
