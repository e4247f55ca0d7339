"""What learns: steps, losses, schedule, looks at dev, checkpoints. `train` is the whole of it."""
