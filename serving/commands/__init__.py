"""The commands of `revisit`, one module per group."""
