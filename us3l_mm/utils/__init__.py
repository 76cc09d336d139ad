"""Files, jobs and tables, for every room but slim."""
