"""`python -m phantom`. The command is in a module of its own: new processes do not import this one."""

from phantom.command import main

if __name__ == "__main__":
    main()
