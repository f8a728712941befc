"""What the program's exit codes say."""

DEFECT = 1  # of this package
USER = 2  # something that the user can mend
INTERRUPTED = 130  # Ctrl-C
PIPE = 141  # who reads the output has gone
TERMINATED = 143
