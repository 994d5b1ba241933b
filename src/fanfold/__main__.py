"""The entry point of `fanfold` and `python -m fanfold`: loads the libraries, then runs the command line."""

import sys
from typing import NoReturn

from fanfold.limits import advice, check_memory


def main() -> NoReturn:
    """Run the command line and exit. If there is too little memory to load the libraries, show an error."""
    try:
        check_memory()
        from fanfold.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException as error:  # MemoryError, or a library's form of it
        if not (message := advice(error)):
            raise
        sys.stderr.write(f"fanfold: {message}\n")
        sys.exit(1)
    command_line()


if __name__ == "__main__":
    main()
