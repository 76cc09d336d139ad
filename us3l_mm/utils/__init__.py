"""Command-line options, files, jobs and tables."""
