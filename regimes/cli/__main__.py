"""python -m regimes.cli"""

from regimes.cli.entry import main

main()
