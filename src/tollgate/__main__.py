"""`python -m tollgate`."""

from tollgate.cli import main

main()
