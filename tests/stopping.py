"""A program that heeds Ctrl-C whoever starts it."""

# A shell that puts tests in the background has them ignore the signal, and that is handed down to whatever they start.
STOPPABLE = "import signal; signal.signal(2, signal.default_int_handler); from consciousness_cluster.cli import main; main()"
