"""Where `fanfold` and `python -m fanfold` start: the command line, once its libraries have loaded."""

import sys
from typing import NoReturn

from fanfold.limits import advice


def main() -> NoReturn:
    """Run the command line and exit. Libraries that do not load for want of memory end it with a sentence, too."""
    try:
        from fanfold.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException as error:  # MemoryError, or what libraries make of it
        if not (said := advice(error)):
            raise
        sys.stderr.write(f"fanfold: {said}\n")
        sys.exit(1)
    command_line()


if __name__ == "__main__":
    main()
