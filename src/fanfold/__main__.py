"""`python -m fanfold`: the command line, where no script of that name is installed."""

from fanfold.cli import main

if __name__ == "__main__":
    main()
