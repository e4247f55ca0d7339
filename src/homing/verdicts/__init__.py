"""What is concluded from evaluations: differences, their causes, and the words for them."""
