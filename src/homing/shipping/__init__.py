"""What goes out of the house: a model's directory as other software reads it, its card, and how to deploy it."""
