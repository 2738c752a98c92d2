"""From features to the probability of fraud: network, calibration, export, and what runs it."""
