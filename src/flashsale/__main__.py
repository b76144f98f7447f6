"""`python -m flashsale`: the command line, where no script was installed."""

from flashsale.cli import main

if __name__ == "__main__":
    main()
