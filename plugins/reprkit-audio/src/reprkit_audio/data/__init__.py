"""Speech data sets, one a file."""
