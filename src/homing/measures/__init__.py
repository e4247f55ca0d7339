"""What models are measured by: formulas, thresholds, and how sure a number is."""
