"""What resuming needs: a snapshot of the run, and its files."""
