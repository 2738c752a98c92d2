"""What does the decision service do when things break? Real processes, real kills, real files."""
